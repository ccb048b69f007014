//! The views that queries see. Documented in `docs/query.md`; a test holds the two together.

use opyard_model::id::TenantId;

/// Name and text of each view. `{v}` is the name of this query's hidden views, which show one tenant's rows; `{asset}`,
/// `{series}` and `{next:…}` are filled in by [`sql`].
pub(crate) const VIEWS: [(&str, &str); 8] = [
    (
        "runs",
        "SELECT run, job, environment, status, {t:enqueued_at}, {t:started_at}, {t:ended_at},
            (ended_at - started_at) / 1000.0 AS duration_ms, planned AS steps_planned, success AS steps_success,
            memoized AS steps_memoized, reused AS steps_reused, skipped AS steps_skipped, failure AS steps_failure,
            canceled AS steps_canceled, failed_with ->> '$.code' AS failure_code,
            failed_with ->> '$.description' AS failure, tags, parent_run AS parent_run_id, root_run AS root_run_id,
            last_seq AS events
         FROM {v}_runs",
    ),
    ("events", "SELECT run, seq, {t:at}, at AS at_us, kind, step, generation, attempt, code, payload FROM {v}_events"),
    (
        "steps",
        "SELECT last.run, last.step,
            CASE last.kind WHEN 'step_start' THEN 'running' WHEN 'step_waiting' THEN 'waiting' WHEN 'step_up_for_retry' THEN 'up_for_retry'
                WHEN 'step_success' THEN 'success' WHEN 'step_memoized' THEN 'memoized'
                WHEN 'step_reused' THEN 'reused'
                WHEN 'step_skipped' THEN 'skipped' WHEN 'step_superseded' THEN 'pending'
                WHEN 'step_failure' THEN iif(last.code = 'OPY-309', 'canceled', 'failure') ELSE 'ready' END AS status,
            last.generation, tries AS attempts, {t:started_at},
            iif(ended, strftime('%Y-%m-%dT%H:%M:%fZ', last.at / 1e6, 'unixepoch'), NULL) AS ended_at,
            iif(ended, (last.at - started_at) / 1000.0, NULL) AS duration_ms,
            last.payload ->> '$.usage.fuel' AS fuel,
            (last.payload ->> '$.usage.cpu.secs') * 1e3 + (last.payload ->> '$.usage.cpu.nanos') / 1e6 AS cpu_ms,
            (last.payload ->> '$.usage.wall.secs') * 1e3 + (last.payload ->> '$.usage.wall.nanos') / 1e6 AS wall_ms,
            last.payload ->> '$.usage.peak_memory' AS peak_memory,
            last.code, last.payload ->> '$.failure.description' AS failure,
            last.payload ->> '$.origin' AS origin
         FROM (
            SELECT max(id) AS last_id, sum(kind = 'step_start') AS tries,
                min(iif(kind = 'step_start', at, NULL)) AS started_at,
                max(kind IN ('step_success', 'step_memoized', 'step_reused', 'step_skipped', 'step_failure')) AS ended
            FROM {v}_events
            WHERE kind IN ('step_waiting', 'step_start', 'step_success', 'step_failure', 'step_skipped', 'step_up_for_retry',
                'step_restarted', 'step_superseded', 'step_memoized', 'step_reused', 'step_memo_missed')
            GROUP BY run, step
         ) JOIN {v}_events AS last ON last.id = last_id",
    ),
    (
        "artifacts",
        "SELECT run, step, value ->> '$.port' AS output, value ->> '$.value.mapping_key' AS mapping_key,
            value ->> '$.value.artifact.digest' AS digest, value ->> '$.value.artifact.size' AS size,
            value ->> '$.value.type_name' AS type, value ->> '$.value.media_type' AS media_type,
            value -> '$.value.metadata' AS metadata, origin, {t:at}
         FROM (
            SELECT run, step, id, at, NULL AS origin, payload -> '$.output' AS value FROM {v}_events
            WHERE kind = 'step_output'
            UNION ALL
            SELECT run, step, {v}_events.id, at, payload ->> '$.origin', json_each.value
            FROM {v}_events, json_each(payload, '$.outputs')
            WHERE kind IN ('step_memoized', 'step_reused')
         )",
    ),
    (
        "metrics",
        "SELECT run, id & 0xffffffff AS seq, step, {t:at}, at AS at_us, {series} AS name, payload ->> '$.point.value' AS value,
            payload ->> '$.point.step' AS series_step, payload ->> '$.from_memo' AS from_memo
         FROM {v}_said WHERE kind = 'metric'",
    ),
    (
        "series",
        "WITH RECURSIVE names(name) AS (
            SELECT {next:series:metric:}
            UNION ALL
            SELECT {next:series:metric:AND {series} > names.name} FROM names WHERE names.name IS NOT NULL
         )
         SELECT names.name, last.run, last.step, {t:last.at}, last.at AS at_us, last.payload ->> '$.point.value' AS value,
            last.payload ->> '$.point.step' AS series_step
         FROM names JOIN {v}_events AS last ON last.id = (
            SELECT id FROM {v}_said WHERE kind = 'metric' AND {series} = names.name ORDER BY at DESC, id DESC LIMIT 1
         )",
    ),
    (
        "asset_events",
        "SELECT run, id & 0xffffffff AS seq, step, {t:at}, at AS at_us, 'materialization' AS kind, {asset} AS asset_key,
            payload ->> '$.asset.partition' AS partition, payload ->> '$.asset.description' AS description,
            payload -> '$.asset.metadata' AS metadata, payload -> '$.asset.tags' AS tags,
            payload ->> '$.from_memo' AS from_memo
         FROM {v}_said WHERE kind = 'asset_materialization'
         UNION ALL
         SELECT run, id & 0xffffffff, step, {t:at}, at, 'observation', {asset}, payload ->> '$.asset.partition',
            payload ->> '$.asset.description', payload -> '$.asset.metadata', payload -> '$.asset.tags',
            payload ->> '$.from_memo'
         FROM {v}_said WHERE kind = 'asset_observation'",
    ),
    (
        "assets",
        "WITH RECURSIVE keys(asset_key) AS (
            SELECT (SELECT min(next) FROM (
                SELECT {next:asset:asset_materialization:} AS next UNION ALL SELECT {next:asset:asset_observation:}))
            UNION ALL
            SELECT (SELECT min(next) FROM (
                SELECT {next:asset:asset_materialization:AND {asset} > keys.asset_key} AS next
                UNION ALL SELECT {next:asset:asset_observation:AND {asset} > keys.asset_key}))
            FROM keys WHERE keys.asset_key IS NOT NULL
         )
         SELECT keys.asset_key, last.run, last.step, {t:last.at}, last.at AS at_us, substr(last.kind, 7) AS kind,
            last.payload ->> '$.asset.partition' AS partition, last.payload ->> '$.asset.description' AS description,
            last.payload -> '$.asset.metadata' AS metadata
         FROM keys JOIN {v}_events AS last ON last.id = (
            SELECT id FROM (
                SELECT * FROM (SELECT id, at FROM {v}_said WHERE kind = 'asset_materialization'
                    AND {asset} = keys.asset_key ORDER BY at DESC, id DESC LIMIT 1)
                UNION ALL
                SELECT * FROM (SELECT id, at FROM {v}_said WHERE kind = 'asset_observation'
                    AND {asset} = keys.asset_key ORDER BY at DESC, id DESC LIMIT 1)
            ) ORDER BY at DESC, id DESC LIMIT 1
         )",
    ),
];

/// The key of an asset event, as the indices over them have it, word by word.
const ASSET: &str = "payload -> '$.asset.asset_key'";
/// The series of a metric, likewise.
const SERIES: &str = "payload ->> '$.point.name'";

/// Assets and series by name, in the order of their events: so that a look at one, or at the latest of each, reads none of
/// the others. Added to databases that were made before. SQLite keeps them: a program that does not know them feeds them too.
pub(crate) const INDICES: &str = "
CREATE INDEX IF NOT EXISTS events_materialized ON events (payload -> '$.asset.asset_key', at)
    WHERE kind = 'asset_materialization';
CREATE INDEX IF NOT EXISTS events_observed ON events (payload -> '$.asset.asset_key', at)
    WHERE kind = 'asset_observation';
CREATE INDEX IF NOT EXISTS events_measured ON events (payload ->> '$.point.name', at) WHERE kind = 'metric';
";

/// Tables that no view is named like.
const HIDDEN: [&str; 5] = ["memo", "memo_claims", "objects", "requests", "upkeep"];

/// A table that a query cannot see.
pub(crate) fn is_hidden(table: &str) -> bool {
    let table = table.to_ascii_lowercase();
    HIDDEN.contains(&table.as_str()) || table.starts_with("sqlite_") || table.starts_with("pragma_")
}

/// The names of the views.
pub(crate) fn names() -> Vec<&'static str> {
    VIEWS.iter().map(|view| view.0).collect()
}

/// Makes the views of one tenant, over hidden views whose names start with `secret`.
pub(crate) fn sql(secret: &str, tenant: &TenantId) -> String {
    // A tenant's id holds nothing that ends a literal. Each table is asked for a column here (`kind > ''` is always so):
    // otherwise a query that counts rows would be reported as one that reads no column of the table itself.
    let mut sql = format!(
        "CREATE TEMP VIEW {secret}_runs AS SELECT * FROM main.runs WHERE tenant = '{tenant}';
         CREATE TEMP VIEW {secret}_events AS
            SELECT r.run, e.id & 0xffffffff AS seq, e.id, e.at, e.kind, e.step || coalesce(e.mapping, '') AS step,
                e.generation, e.attempt, e.code, e.payload
            FROM main.runs AS r JOIN main.events AS e
                ON e.id BETWEEN r.run_no << 32 AND (r.run_no << 32) + 0xffffffff AND r.run_no = e.id >> 32
            WHERE r.tenant = '{tenant}' AND e.kind > '';
         CREATE TEMP VIEW {secret}_said AS
            SELECT r.run, e.id, e.at, e.kind, e.step || coalesce(e.mapping, '') AS step, e.payload
            FROM main.events AS e CROSS JOIN main.runs AS r ON r.run_no = e.id >> 32
            WHERE r.tenant = '{tenant}' AND e.kind > '';"
    );
    for (name, text) in VIEWS {
        let text = text.replace("{asset}", ASSET).replace("{series}", SERIES);
        let text = filled(text, "{next:", |place| {
            let mut parts = place.splitn(3, ':');
            let mut part = || parts.next().unwrap_or_default();
            let (key, kind, after) = (if part() == "asset" { ASSET } else { SERIES }, part(), part());
            format!("(SELECT {key} FROM {{v}}_said WHERE kind = '{kind}' {after} ORDER BY {key} LIMIT 1)")
        });
        let text = filled(text, "{t:", |column| {
            let name = column.rsplit('.').next().unwrap_or(column);
            format!("strftime('%Y-%m-%dT%H:%M:%fZ', {column} / 1e6, 'unixepoch') AS {name}")
        });
        sql.push_str(&format!("CREATE TEMP VIEW {name} AS {};", text.replace("{v}", secret)));
    }
    sql
}

/// `text` with each place that starts with `mark` and ends with `}` filled in.
fn filled(mut text: String, mark: &str, fill: impl Fn(&str) -> String) -> String {
    while let Some(start) = text.find(mark) {
        let end = start + text[start..].find('}').unwrap_or(0);
        let filling = fill(&text[start + mark.len()..end]);
        text.replace_range(start..=end, &filling);
    }
    text
}
