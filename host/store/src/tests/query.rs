use std::time::Duration;

use opyard_model::error::Code;
use opyard_model::event::{AssetEvent, MetricPoint, RunEvent};
use serde_json::json;

use super::conform::Yard;
use crate::TenantStore;
use crate::conformance::samples::{at, attempt, enqueued, failed, output, run, started, step, succeeded, yielded};
use crate::error::StoreErrorKind;
use crate::query::QueryLimits;
use crate::sqlite::views;

async fn filled(tenant: &TenantStore) {
    let artifacts = tenant.artifacts();
    let plan = artifacts.put(b"{}".as_slice().into()).await.unwrap().artifact;
    let value = artifacts.put(b"value".as_slice().into()).await.unwrap().artifact;
    let key = opyard_model::digest::Digest::of(b"key");
    let asset = AssetEvent {
        asset_key: vec!["penguins".into(), "model".into()],
        partition: None,
        description: Some("fitted".into()),
        metadata: Vec::new(),
        tags: Vec::new(),
    };
    let point = MetricPoint { name: "accuracy".into(), value: Some(0.97), step: Some(3) };
    let events = vec![
        (at(0), enqueued(plan, 3)),
        (at(1_000), RunEvent::RunStart),
        (at(2_000), started("fit")),
        (at(3_000), RunEvent::Metric { of: attempt("fit"), point, from_memo: false }),
        (at(3_000), RunEvent::AssetMaterialization { of: attempt("fit"), asset, from_memo: false }),
        (at(4_000), output("fit", value)),
        (at(4_000), succeeded("fit")),
        (at(5_000), started("score[adelie]")),
        (at(6_000), failed("score[adelie]", Code::Trapped)),
        (
            at(7_000),
            RunEvent::StepMemoized {
                step: step("card"),
                generation: 0,
                key,
                origin: run(1),
                outputs: vec![yielded(value)],
            },
        ),
        (
            at(8_000),
            RunEvent::RunFailure { failure: opyard_model::error::Failure::new(Code::OpFailed, "1 step failed") },
        ),
    ];
    tenant.events().append(run(1), 0, events).await.unwrap().durable.wait().await.unwrap();
}

#[tokio::test]
async fn the_views_say_what_happened() {
    let yard = Yard::new("file:");
    let tenant = yard.tenant("a");
    filled(&tenant).await;
    filled(&yard.tenant("b")).await;
    let ask = async |sql: &str| tenant.query(sql, QueryLimits::default()).await.unwrap().rows;
    let text = run(1).to_string();
    assert_eq!(
        ask("SELECT run, job, status, duration_ms, steps_success, steps_memoized, steps_failure, failure_code, tags ->> 'team', events FROM runs").await,
        [[json!(text), json!("train"), json!("failure"), json!(7.0), json!(1), json!(1), json!(1), json!("OPY-101"), json!("ecology"), json!(11)]]
    );
    assert_eq!(
        ask("SELECT step, status, attempts, duration_ms, code FROM steps ORDER BY step").await,
        [
            [json!("card"), json!("memoized"), json!(0), json!(null), json!(null)],
            [json!("fit"), json!("success"), json!(1), json!(2.0), json!(null)],
            [json!("score[adelie]"), json!("failure"), json!(1), json!(1.0), json!("OPY-102")],
        ]
    );
    assert_eq!(
        ask("SELECT step, output, size, origin IS NULL FROM artifacts ORDER BY step DESC").await,
        [[json!("fit"), json!("out"), json!(5), json!(1)], [json!("card"), json!("out"), json!(5), json!(0)]]
    );
    assert_eq!(
        ask("SELECT step, name, value, series_step FROM metrics").await,
        [[json!("fit"), json!("accuracy"), json!(0.97), json!(3)]]
    );
    assert_eq!(
        ask("SELECT kind, asset_key ->> 1 FROM asset_events").await,
        [[json!("materialization"), json!("model")]]
    );
    assert_eq!(
        ask("SELECT asset_key, kind, step, at_us - (SELECT min(at_us) FROM events) FROM assets").await,
        [[json!(r#"["penguins","model"]"#), json!("materialization"), json!("fit"), json!(3_000)]]
    );
    assert_eq!(ask("SELECT name, value, step FROM series").await, [[json!("accuracy"), json!(0.97), json!("fit")]]);
    assert_eq!(
        ask("SELECT count(*), min(seq), max(seq), min(at) FROM events").await,
        [[json!(11), json!(1), json!(11), json!("2026-11-23T04:47:00.000Z")]]
    );
    assert_eq!(
        ask("WITH f AS (SELECT * FROM steps WHERE status = 'failure') SELECT count(*) FROM f").await,
        [[json!(1)]]
    );
    yard.store.close().await;
}

#[tokio::test]
async fn a_query_sees_and_does_nothing_else() {
    let yard = Yard::new("file:");
    filled(&yard.tenant("a")).await;
    filled(&yard.tenant("b")).await;
    let tenant = yard.tenant("b");
    let other = yard.folder.path().join("other.db");
    let attach = format!("ATTACH '{}' AS x", other.display());
    for sql in [
        "SELECT * FROM main.runs",
        "SELECT count(*) FROM main.runs",
        "SELECT count(*) FROM main.events",
        "SELECT 1 FROM main.events",
        "SELECT * FROM memo",
        "SELECT count(*) FROM memo",
        "SELECT count(*) FROM MEMO",
        "SELECT 1 FROM objects",
        "SELECT tenant FROM requests",
        "WITH runs AS (SELECT * FROM main.runs) SELECT * FROM runs",
        "WITH events AS (SELECT * FROM main.events) SELECT count(*) FROM events",
        "WITH runs AS (SELECT tenant FROM objects) SELECT tenant FROM runs",
        "WITH v AS (SELECT count(*) FROM objects) SELECT * FROM v",
        "SELECT * FROM sqlite_schema",
        "SELECT * FROM sqlite_temp_schema",
        "SELECT count(*) FROM sqlite_schema",
        "SELECT name FROM main.sqlite_master",
        "SELECT * FROM pragma_table_list",
        "SELECT * FROM pragma_database_list()",
        "PRAGMA user_version",
        "PRAGMA query_only = 0",
        "SELECT * FROM dbstat",
        "INSERT INTO main.runs (run) VALUES (1)",
        "UPDATE runs SET job = 1",
        "DELETE FROM main.events",
        "DROP TABLE main.runs",
        "DROP VIEW temp.runs",
        "CREATE TABLE t (a)",
        "CREATE TEMP TABLE t (a)",
        "CREATE TEMP VIEW w AS SELECT 1",
        "VACUUM",
        "VACUUM INTO 'x'",
        "ANALYZE",
        "REINDEX",
        &attach,
        "DETACH main",
        "BEGIN",
        "COMMIT",
        "SAVEPOINT s",
        "SELECT load_extension('x')",
        "SELECT randomblob(10)",
        "SELECT zeroblob(1000000000)",
        "SELECT sqlite_version()",
        "SELECT fts3_tokenizer('simple')",
        "SELECT writefile('x', 'y')",
        "SELECT 1; SELECT 2",
        "SELECT 1; DROP TABLE runs",
        "",
        ";",
        "--",
        "SELEC",
        "SELECT ?1",
        "EXPLAIN SELECT * FROM main.runs",
        "SELECT * FROM generate_series(1, 10)",
        "CREATE VIRTUAL TABLE temp.x USING fts5(a)",
        "SELECT * FROM runs AS r, main.events AS e",
        "SELECT (SELECT count(*) FROM main.memo)",
        "SELECT * FROM json_each((SELECT entry FROM memo))",
    ] {
        let answer = tenant.query(sql, QueryLimits::default()).await;
        match answer {
            Err(error) => assert!(matches!(error.kind, StoreErrorKind::Invalid(_)), "{sql}: {error:?}"),
            Ok(rows) => panic!("{sql}: {rows:?}"),
        }
    }
    assert!(!other.exists());
    for view in views::names() {
        let seen = tenant.query(&format!("SELECT * FROM {view}"), QueryLimits::default()).await.expect(view);
        let twice = tenant.query(&format!("SELECT count(*) FROM {view}"), QueryLimits::default()).await.expect(view);
        assert_eq!(twice.rows, [[json!(seen.rows.len())]], "one tenant's {view}");
    }
    yard.store.close().await;
}

#[tokio::test]
async fn a_query_is_bounded() {
    let yard = Yard::new("file:");
    let tenant = yard.tenant("a");
    filled(&tenant).await;
    let forever = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n";
    let ten = tenant.query(forever, QueryLimits { rows: 10, ..QueryLimits::default() }).await.unwrap();
    assert_eq!((ten.rows.len(), ten.truncated), (10, true));
    let small =
        tenant.query("SELECT payload FROM events", QueryLimits { bytes: 300, ..QueryLimits::default() }).await.unwrap();
    assert!(small.truncated && small.rows.len() < 11);
    let short = QueryLimits { time: Duration::from_millis(50), ..QueryLimits::default() };
    let slow = tenant.query(&forever.replace("SELECT i FROM n", "SELECT sum(i) FROM n"), short).await.unwrap_err();
    assert!(matches!(&slow.kind, StoreErrorKind::Invalid(reason) if reason.contains("longer")), "{slow:?}");
    let long = format!("SELECT '{}'", "x".repeat(100_000));
    let deep = format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000));
    for sql in [long.as_str(), deep.as_str(), "SELECT printf('%.*c', 100000000, 'x')"] {
        tenant.query(sql, QueryLimits::default()).await.unwrap_err();
    }
    yard.store.close().await;
}

#[test]
fn every_view_and_column_is_documented() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/query.md")).unwrap();
    let connection = rusqlite::Connection::open_in_memory().unwrap();
    crate::sqlite::schema::create_for_test(&connection);
    connection.execute_batch(&views::sql("v1", &opyard_model::id::TenantId::default())).unwrap();
    for view in views::names() {
        let section = page
            .split("\n## ")
            .find(|section| section.starts_with(&format!("`{view}`")))
            .unwrap_or_else(|| panic!("{view}"));
        let statement = connection.prepare(&format!("SELECT * FROM {view}")).unwrap();
        for column in statement.column_names() {
            assert!(section.contains(&format!("| `{column}` |")), "{view}.{column}");
        }
    }
}

/// The latest of each asset and series, and the history of one, are found by the indices, however long the log is.
#[test]
fn assets_and_series_are_found_without_reading_the_log() {
    let connection = rusqlite::Connection::open_in_memory().unwrap();
    crate::sqlite::schema::create_for_test(&connection);
    connection.execute_batch(&views::sql("v1", &opyard_model::id::TenantId::default())).unwrap();
    for sql in [
        "SELECT * FROM assets LIMIT 5",
        "SELECT * FROM series LIMIT 5",
        r#"SELECT * FROM asset_events WHERE asset_key = '["a"]' ORDER BY at_us DESC, seq DESC LIMIT 5"#,
        "SELECT * FROM metrics WHERE name = 'loss' ORDER BY at_us DESC, seq DESC LIMIT 5",
    ] {
        let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
        let lines: Vec<String> = statement.query_map([], |row| row.get(3)).unwrap().map(Result::unwrap).collect();
        let events: Vec<_> = lines.iter().filter(|line| line.contains(" e ") || line.contains(" events ")).collect();
        assert!(!events.is_empty(), "{lines:?}");
        for line in events {
            let by_name = ["events_materialized", "events_observed", "events_measured"];
            let found = by_name.iter().any(|index| line.contains(index)) || line.contains("(rowid=?)");
            assert!(found, "{sql}: {line}\n{}", lines.join("\n"));
        }
    }
}

/// Whatever is said, in whatever order it is committed: the views are folds of the log.
#[tokio::test]
async fn the_latest_of_each_asset_is_a_fold_of_the_log() {
    let yard = Yard::new("file:");
    let (tenant, other) = (yard.tenant("a"), yard.tenant("b"));
    let mut latest: std::collections::BTreeMap<String, (i64, &str)> = std::collections::BTreeMap::new();
    for (who, salt) in [(&tenant, 1_u64), (&other, 7)] {
        let plan = who.artifacts().put(b"{}".as_slice().into()).await.unwrap().artifact;
        for nth in 1..=4_u8 {
            let mut events = vec![(at(0), enqueued(plan, 1)), (at(1), RunEvent::RunStart), (at(2), started("fit"))];
            for said in 0..40_i64 {
                // Runs overlap in time, and end in another order than they began in.
                let hash = (u64::from(nth) * 40 + said.unsigned_abs()).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ salt) >> 40;
                let moment = 1_000 * said + i64::from((nth * 7) % 5) * 13;
                let key = vec!["lake".to_owned(), format!("t'{}", hash % 5)];
                let asset = AssetEvent {
                    asset_key: key.clone(),
                    partition: None,
                    description: None,
                    metadata: Vec::new(),
                    tags: Vec::new(),
                };
                let (of, from_memo) = (attempt("fit"), false);
                let (event, kind) = match hash % 3 {
                    0 => (RunEvent::AssetObservation { of, asset, from_memo }, "observation"),
                    _ => (RunEvent::AssetMaterialization { of, asset, from_memo }, "materialization"),
                };
                events.push((at(moment), event));
                if salt == 1 {
                    let entry = latest.entry(serde_json::to_string(&key).unwrap()).or_insert((i64::MIN, kind));
                    if moment >= entry.0 {
                        *entry = (moment, kind);
                    }
                }
            }
            who.events().append(run(nth.into()), 0, events).await.unwrap().durable.wait().await.unwrap();
        }
    }
    let zero = at(0).as_micros();
    let seen = tenant.query("SELECT asset_key, at_us, kind FROM assets", QueryLimits::default()).await.unwrap();
    let expected: Vec<_> =
        latest.iter().map(|(key, (moment, kind))| vec![json!(key), json!(zero + moment), json!(kind)]).collect();
    assert_eq!(seen.rows, expected);
    yard.store.close().await;
}
