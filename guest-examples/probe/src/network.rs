//! HTTP and secrets: what was granted, and what is refused.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use opyard_guest::events::{self, Asset};
use opyard_guest::http::{Request, Response};
use opyard_guest::metadata::entry;
use opyard_guest::resource::ResourceError;
use opyard_guest::{Failure, HttpClient, Json, MetadataValue, Retry, Secret, Writer, op};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

/// What `fetch` asks.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fetch {
    /// The address.
    url: String,
    /// The method.
    #[serde(default = "get")]
    method: String,
    /// Names and values of headers.
    #[serde(default)]
    headers: Vec<(String, String)>,
    /// The body.
    #[serde(default)]
    body: String,
    /// Longest time, in milliseconds.
    #[serde(default)]
    timeout_ms: Option<u32>,
    /// How often it asks the same.
    #[serde(default = "once")]
    times: u32,
    /// Read so many bytes of the body at a time.
    #[serde(default = "chunk")]
    piece: usize,
    /// Fail when it is not answered.
    #[serde(default)]
    must: bool,
}

fn get() -> String {
    "GET".to_owned()
}

fn once() -> u32 {
    1
}

fn chunk() -> usize {
    1 << 20
}

fn body(mut response: Response, piece: usize) -> Result<String, String> {
    let (mut all, mut buffer) = (Vec::new(), vec![0; piece]);
    loop {
        match response.read(&mut buffer) {
            Ok(0) => return Ok(String::from_utf8_lossy(&all).into_owned()),
            Ok(count) => all.extend_from_slice(&buffer[..count]),
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Sends a request, and tells what came of it: status, headers and body, or the error.
#[op]
pub(crate) fn fetch(api: HttpClient, config: Fetch) -> Result<Json<Value>, Failure> {
    let mut request = Request::new(config.method, config.url);
    (request.headers, request.body) = (config.headers, config.body.into_bytes());
    request.timeout = config.timeout_ms.map(|ms| Duration::from_millis(ms.into()));
    let mut told = Value::Null;
    for _ in 0..config.times {
        told = match api.send(&request) {
            Ok(response) => {
                let (status, headers) = (response.status(), response.headers());
                json!({ "status": status, "headers": headers, "body": body(response, config.piece) })
            }
            Err(error) if config.must => return Err(error.into()),
            Err(error) => json!({ "error": tell(error) }),
        };
    }
    Ok(Json::new(told))
}

fn tell(error: ResourceError) -> String {
    format!("{:?}", error.kind)
}

/// How much `post_large` sends.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Large {
    /// The address.
    url: String,
    /// Bytes of the body.
    bytes: usize,
}

/// Sends a body of so many bytes, and tells the status or the error.
#[op]
pub(crate) fn post_large(api: HttpClient, config: Large) -> Json<Value> {
    let told = api.send(&Request::post(config.url, vec![b'x'; config.bytes]));
    Json::new(told.map_or_else(|error| json!(tell(error)), |response| json!(response.status())))
}

/// Whether a secret is given away.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reveal {
    /// Yields the secret itself, in place of its length.
    #[serde(default)]
    aloud: bool,
}

/// Tells the length of a secret, or the secret itself.
#[op]
pub(crate) fn reveal_secret(token: Secret, config: Reveal) -> Json<Value> {
    let text = token.text().unwrap_or_default();
    Json::new(if config.aloud { json!(text) } else { json!(token.bytes().len()) })
}

/// How an op that gives a secret away ends.
#[derive(Deserialize, JsonSchema, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ending {
    /// It succeeds.
    Success,
    /// It fails, and says why.
    Failure,
    /// It asks for another try.
    Retry,
    /// It panics.
    Panic,
}

/// What `blab` does.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Blab {
    ending: Ending,
}

/// Says a secret wherever an op can say something.
#[op]
pub(crate) fn blab(token: Secret, config: Blab, mut result: Writer) -> Result<(), Failure> {
    let secret = token.text().unwrap_or_default();
    let hex: String = token.bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    events::log(
        events::Level::Info,
        &format!("it is {secret}"),
        &[events::field(secret, &json!([secret, { "hex": hex }]))],
    );
    events::progress(1, None, Some(secret));
    events::metric(secret, 1.0);
    Asset::new([secret]).description(secret).with_metadata(secret, secret).tag(secret, secret).observe();
    events::expect(
        secret,
        true,
        Some(&hex),
        vec![entry("table", MetadataValue::table(&[(secret, "text")], [vec![json!(secret)]]))],
    );
    result.add_metadata(secret, hex.as_str())?;
    match config.ending {
        Ending::Success => {
            result.write_all(secret.as_bytes())?;
            result.commit()
        }
        Ending::Failure => Err(Failure::new(format!("no {secret}")).with_metadata(secret, hex)),
        Ending::Retry => Err(Retry::new(secret).into()),
        Ending::Panic => panic!("{secret}"),
    }
}

/// Asks for a secret that it never listed: a trap, whatever the component imports for its other ops.
#[op]
pub(crate) fn peek() -> Json<bool> {
    Json::new(opyard_guest::bindings::opyard::resources::secrets::reveal("token").is_ok())
}

/// Tells whether it was shown a secret that it can do without.
#[op]
pub(crate) fn may_reveal(token: Option<Secret>) -> Json<bool> {
    Json::new(token.is_some())
}
