//! The views that queries see. Documented in `docs/query.md`; a test holds the two together.

use opyard_model::id::TenantId;

/// Name and text of each view. `{v}` is the name of this query's hidden views, which show one tenant's rows.
pub(crate) const VIEWS: [(&str, &str); 6] = [
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
        "SELECT run, step, {t:at}, payload ->> '$.point.name' AS name, payload ->> '$.point.value' AS value,
            payload ->> '$.point.step' AS series_step, payload ->> '$.from_memo' AS from_memo
         FROM {v}_events WHERE {said} AND kind = 'metric'",
    ),
    (
        "asset_events",
        "SELECT run, step, {t:at}, substr(kind, 7) AS kind, payload -> '$.asset.asset_key' AS asset_key,
            payload ->> '$.asset.partition' AS partition, payload ->> '$.asset.description' AS description,
            payload -> '$.asset.metadata' AS metadata, payload -> '$.asset.tags' AS tags,
            payload ->> '$.from_memo' AS from_memo
         FROM {v}_events WHERE {said} AND kind <> 'metric'",
    ),
];

/// The condition of the index over these kinds, word by word.
const SAID: &str = "kind IN ('metric', 'asset_materialization', 'asset_observation')";

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
            WHERE r.tenant = '{tenant}' AND e.kind > '';"
    );
    for (name, text) in VIEWS {
        let mut text = text.replace("{v}", secret).replace("{said}", SAID);
        while let Some(start) = text.find("{t:") {
            let end = start + text[start..].find('}').unwrap_or(0);
            let column = text[start + 3..end].to_owned();
            let moment = format!("strftime('%Y-%m-%dT%H:%M:%fZ', {column} / 1e6, 'unixepoch') AS {column}");
            text.replace_range(start..=end, &moment);
        }
        sql.push_str(&format!("CREATE TEMP VIEW {name} AS {text};"));
    }
    sql
}
