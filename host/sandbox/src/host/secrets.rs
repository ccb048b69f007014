//! `secrets`: bytes of secrets, for ops that were granted to see them. Every time is on record.

use opyard_model::component::Interface;
use opyard_model::step::Saying;

use crate::bindings::opyard::resources::errors::Error;
use crate::bindings::opyard::resources::secrets::Host;
use crate::gate::{Doorway, Secrets};
use crate::guard::Limit;
use crate::host::grant::{Answer, granted, limited};
use crate::host::http_client::{entry, failed};
use crate::metadata::short;

impl Host for Doorway<'_, Secrets> {
    async fn reveal(&mut self, key: String) -> Answer<Vec<u8>> {
        let state = self.enter()?;
        let Some((granted, opening)) = granted(state, &key, Interface::Secrets)? else {
            return Ok(Err(Error::Denied));
        };
        let resources = state.resources.clone();
        let secret = match resources.secret(&granted.name, &granted.spec).await {
            Ok(secret) => secret,
            Err(failure) => {
                opening.failed(state, &failure);
                return Ok(Err(failed(state, &key, failure)));
            }
        };
        opening.succeeded(state);
        let message = format!("{} was shown the secret `{}`", state.who(), granted.name);
        let metadata = vec![entry("key", &short(&key)), entry("secret", granted.name.as_str())];
        // An op that has filled the log with events of its own is shown nothing more.
        if !state.outbox.audit(Saying::Audited { message, metadata }) {
            state.guard.tell_of_limit();
            return Ok(Err(limited(state, Limit("events"))));
        }
        state.redactor.learn(&granted.name, secret.expose());
        // Once with the guest, it is the guest's to keep.
        Ok(Ok(secret.expose().to_vec()))
    }
}
