//! Locators: JSON that only the manager that made it, or the author of the definitions, gives a meaning. Checked where they
//! are read: they come from a database, or from a file.

use opyard_model::error::Failure;
use opyard_model::json::CanonicalJson;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::refused;

pub(super) fn read<T: DeserializeOwned>(context: &str, json: &CanonicalJson) -> Result<T, Failure> {
    serde_json::from_str(json.as_str())
        .map_err(|error| refused(context, format!("not a locator of this manager: {error}")))
}

pub(super) fn write(context: &str, locator: &impl Serialize) -> Result<CanonicalJson, Failure> {
    let json = serde_json::to_value(locator).map_err(|error| refused(context, error))?;
    CanonicalJson::new(&json).map_err(|error| refused(context, error))
}
