//! Questions in SQL, over documented views that show one tenant.
//!
//! Hostile: the text comes from whoever may look at a tenant's runs. It is run on a connection of its own that can only
//! read; an authorizer refuses everything but the views; rows, bytes, time and everything that SQLite can bound are bounded.
//! The views and their columns are documented in `docs/query.md`.

use std::time::{Duration, Instant};

use opyard_model::id::TenantId;
use rusqlite::Connection;
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{StoreError, StoreErrorKind};
use crate::sqlite::{new_ulid, schema, sqlite_error, unreadable, views};
use crate::store::TenantStore;

/// Bounds of one query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueryLimits {
    /// Most rows; 10,000 by default.
    pub rows: usize,
    /// Most bytes of all values; 16 MiB by default.
    pub bytes: usize,
    /// Longest time; 10 s by default.
    pub time: Duration,
}

impl Default for QueryLimits {
    fn default() -> Self {
        Self { rows: 10_000, bytes: 16 << 20, time: Duration::from_secs(10) }
    }
}

/// The answer to a query.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueryRows {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// One value a column; bytes as hex digits.
    pub rows: Vec<Vec<Value>>,
    /// There is more than the limits let through.
    pub truncated: bool,
}

/// What bounds a statement beside its time, as SQLite counts it.
const LIMITS: [(Limit, i32); 11] = [
    (Limit::SQLITE_LIMIT_LENGTH, 4 << 20),
    (Limit::SQLITE_LIMIT_SQL_LENGTH, 64 << 10),
    (Limit::SQLITE_LIMIT_COLUMN, 100),
    (Limit::SQLITE_LIMIT_EXPR_DEPTH, 100),
    (Limit::SQLITE_LIMIT_COMPOUND_SELECT, 20),
    (Limit::SQLITE_LIMIT_VDBE_OP, 100_000),
    (Limit::SQLITE_LIMIT_FUNCTION_ARG, 32),
    (Limit::SQLITE_LIMIT_ATTACHED, 0),
    (Limit::SQLITE_LIMIT_LIKE_PATTERN_LENGTH, 1_000),
    (Limit::SQLITE_LIMIT_VARIABLE_NUMBER, 0),
    (Limit::SQLITE_LIMIT_WORKER_THREADS, 0),
];

/// Instructions between two looks at the clock.
const INSTRUCTIONS: i32 = 10_000;

/// Functions that a query may call: those that only compute.
const FUNCTIONS: &[&str] = &[
    "->",
    "->>",
    "abs",
    "acos",
    "asin",
    "atan",
    "atan2",
    "avg",
    "ceil",
    "ceiling",
    "char",
    "coalesce",
    "concat",
    "concat_ws",
    "cos",
    "count",
    "cume_dist",
    "date",
    "datetime",
    "degrees",
    "dense_rank",
    "exp",
    "first_value",
    "floor",
    "format",
    "glob",
    "group_concat",
    "hex",
    "ifnull",
    "iif",
    "instr",
    "json",
    "json_array",
    "json_array_length",
    "json_each",
    "json_error_position",
    "json_extract",
    "json_group_array",
    "json_group_object",
    "json_object",
    "json_patch",
    "json_pretty",
    "json_quote",
    "json_remove",
    "json_replace",
    "json_set",
    "json_tree",
    "json_type",
    "json_valid",
    "julianday",
    "lag",
    "last_value",
    "lead",
    "length",
    "like",
    "ln",
    "log",
    "log10",
    "log2",
    "lower",
    "ltrim",
    "max",
    "median",
    "min",
    "mod",
    "nth_value",
    "ntile",
    "nullif",
    "octet_length",
    "percent_rank",
    "percentile",
    "pi",
    "pow",
    "power",
    "printf",
    "quote",
    "radians",
    "rank",
    "replace",
    "round",
    "row_number",
    "rtrim",
    "sign",
    "sin",
    "sqrt",
    "strftime",
    "string_agg",
    "substr",
    "substring",
    "subtype",
    "sum",
    "tan",
    "time",
    "timediff",
    "total",
    "trim",
    "trunc",
    "typeof",
    "unhex",
    "unicode",
    "unixepoch",
    "upper",
];

/// What a statement may do. `secret` names the views through which alone tables may be read: a query cannot name a common
/// table expression like them, which SQLite would report in the same way as a view.
fn authorize(secret: &str, context: &AuthContext<'_>) -> Authorization {
    let allowed = match context.action {
        AuthAction::Select | AuthAction::Recursive => true,
        AuthAction::Function { function_name } => {
            FUNCTIONS.binary_search(&function_name.to_ascii_lowercase().as_str()).is_ok()
        }
        // No column: the rows are counted, of a view or of a part of the query itself. Never of a table, even if it is not
        // named in full.
        AuthAction::Read { table_name, column_name: "" } => match context.database_name {
            None | Some("temp") => !views::is_hidden(table_name),
            Some(_) => false,
        },
        AuthAction::Read { table_name, .. } => {
            let inside = context.accessor.is_some_and(|accessor| accessor.starts_with(secret));
            let view = context.database_name == Some("temp")
                && (views::VIEWS.iter().any(|view| view.0 == table_name) || table_name.starts_with(secret));
            inside || view || matches!(table_name, "json_each" | "json_tree")
        }
        _ => false,
    };
    if allowed { Authorization::Allow } else { Authorization::Deny }
}

impl TenantStore {
    /// Answers a question in SQL: one `SELECT` over the views of `docs/query.md`, which show this tenant only.
    ///
    /// # Limits
    /// Those of `limits`. Rows and bytes beyond are left out, and said so; time beyond is an error.
    ///
    /// # Errors
    /// `Invalid` when the text is no such query, or takes too long; `Unavailable`, `Locked`.
    ///
    /// # Cancel safety
    /// Dropped, the query ends by its time limit at the latest.
    pub async fn query(&self, sql: &str, limits: QueryLimits) -> Result<QueryRows, StoreError> {
        let (path, busy) = self.shared().readers.database();
        let path = path.clone();
        let secret = format!("v{}", new_ulid(&*self.shared().clock)?.to_ascii_lowercase());
        let (tenant, sql) = (self.tenant().clone(), sql.to_owned());
        let answer = tokio::task::spawn_blocking(move || {
            let mut connection = schema::open_viewer(&path, busy)?;
            prepare(&mut connection, &tenant, secret, limits.time)?;
            run(&connection, &sql, limits)
        });
        answer.await.map_err(|error| unreadable("answering a query", error))?
    }
}

/// Makes the views, then takes everything else away.
fn prepare(connection: &mut Connection, tenant: &TenantId, secret: String, time: Duration) -> Result<(), StoreError> {
    let wrong = |error: rusqlite::Error| sqlite_error("preparing a query", &error);
    connection.execute_batch(&views::sql(&secret, tenant)).map_err(wrong)?;
    for (limit, value) in LIMITS {
        connection.set_limit(limit, value).map_err(wrong)?;
    }
    let end = Instant::now() + time;
    connection.progress_handler(INSTRUCTIONS, Some(move || Instant::now() >= end)).map_err(wrong)?;
    connection.authorizer(Some(move |context: AuthContext<'_>| authorize(&secret, &context))).map_err(wrong)
}

fn run(connection: &Connection, sql: &str, limits: QueryLimits) -> Result<QueryRows, StoreError> {
    let invalid = |reason: String| StoreError::new("answering a query", StoreErrorKind::Invalid(reason));
    let wrong = |error: rusqlite::Error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::OperationInterrupted) => {
            invalid(format!("the query takes longer than {} s", limits.time.as_secs_f64()))
        }
        Some(
            rusqlite::ErrorCode::DatabaseBusy
            | rusqlite::ErrorCode::SystemIoFailure
            | rusqlite::ErrorCode::DatabaseCorrupt
            | rusqlite::ErrorCode::NotADatabase,
        ) => sqlite_error("answering a query", &error),
        Some(rusqlite::ErrorCode::AuthorizationForStatementDenied) => {
            invalid(format!("not allowed in a query: only SELECT over the views {}", views::names().join(", ")))
        }
        _ => {
            let text = error.to_string();
            let which = format!("; there are the views {}", views::names().join(", "));
            invalid(if text.contains("no such table") { text + &which } else { text })
        }
    };
    let mut batch = rusqlite::Batch::new(connection, sql);
    let mut statement = batch.next().map_err(wrong)?.ok_or_else(|| invalid("an empty query".into()))?;
    if batch.next().map_err(wrong)?.is_some() {
        return Err(invalid("more than one statement".into()));
    }
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut answer = QueryRows { columns, rows: Vec::new(), truncated: false };
    let mut bytes = 0;
    let mut found = statement.query([]).map_err(wrong)?;
    while let Some(row) = found.next().map_err(wrong)? {
        let mut values = Vec::with_capacity(answer.columns.len());
        for index in 0..answer.columns.len() {
            let value = row.get_ref(index).map_err(wrong)?;
            bytes += size(value);
            values.push(json(value));
        }
        if answer.rows.len() == limits.rows || bytes > limits.bytes {
            answer.truncated = true;
            break;
        }
        answer.rows.push(values);
    }
    Ok(answer)
}

fn size(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => 8,
        ValueRef::Text(bytes) => bytes.len() + 8,
        ValueRef::Blob(bytes) => 2 * bytes.len() + 8,
    }
}

fn json(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into(),
    }
}
