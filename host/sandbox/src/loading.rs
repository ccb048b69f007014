//! Inputs that have to be loaded: those whose only copy is outside, and those whose artifact is gone.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use opyard_model::error::{Code, Failure};
use opyard_model::event::LoadedValue;
use opyard_model::id::Name;
use opyard_model::limits::Limits;
use opyard_model::plan::OutsideValue;
use opyard_model::step::{Bound, BoundManager, OpCall, Said, Saying, StepIdentity};
use opyard_model::value::{Kept, ValueRef};
use opyard_store::artifact::{ArtifactWriter, Put};
use opyard_store::error::{StoreError, StoreErrorKind};
use opyard_store::io_manager::{IoManager, Loaded, Slot};

use crate::json_check::Check;
use crate::output::Keeper;

/// One call, and who is asked on its behalf.
#[derive(Clone, Copy)]
struct Asked<'a> {
    step: &'a StepIdentity,
    limits: &'a Limits,
    said: &'a dyn Said,
}

impl Keeper {
    /// Loads what the call is given from outside, and what its artifacts have lost. True when all that is outside is, by the
    /// word of its managers, what the request takes it for: a result may be used again only then.
    ///
    /// # Errors
    /// Why a value cannot be had, or is not what its port takes.
    pub(crate) async fn load_inputs(
        &self,
        call: &mut OpCall,
        step: &StepIdentity,
        limits: &Limits,
        said: &dyn Said,
    ) -> Result<bool, Failure> {
        // Nothing is outside that no manager keeps.
        if call.managers.is_empty() {
            return Ok(true);
        }
        let asked = Asked { step, limits, said };
        let mut is_proven = true;
        for input in &mut call.inputs {
            match &input.bound {
                Bound::Absent => {}
                Bound::One(_) | Bound::Many(_) => {
                    for value in input.bound.values() {
                        self.recover(value, (&input.port, &call.managers), asked).await?;
                    }
                }
                Bound::Outside { value, many, fingerprint } => {
                    let manager = call.managers.get(&value.manager).ok_or_else(no_manager)?;
                    let (loaded, found) = self.load_outside(&input.port, value, manager, asked).await?;
                    is_proven &= found.is_some() && found == *fingerprint;
                    input.bound = if *many { Bound::Many(vec![loaded]) } else { Bound::One(loaded) };
                }
            }
        }
        Ok(is_proven)
    }

    /// Loads a value whose only copy is outside. Also answers its fingerprint, if that was the same before and after.
    async fn load_outside(
        &self,
        port: &Name,
        value: &OutsideValue,
        manager: &BoundManager,
        asked: Asked<'_>,
    ) -> Result<(ValueRef, Option<String>), Failure> {
        let opened = self.manager(&value.manager, manager, asked.said).await?.ok_or_else(no_manager)?;
        let (manager, locator) = (opened.get(), &value.locator);
        let before = manager.fingerprint(locator).await?;
        let check = Check::of(value.base, value.media_type.as_str());
        let slot = asked.slot(port, &value.type_name);
        let Loaded { artifact, metadata } = self.load((manager, &slot), locator, check, asked.limits).await?;
        // What changed while it was read is neither what it was nor what it is.
        let fingerprint = match before {
            Some(before) => manager.fingerprint(locator).await?.filter(|after| *after == before),
            None => None,
        };
        asked.said.say(Saying::Loaded(LoadedValue {
            port: port.clone(),
            manager: value.manager.clone(),
            locator: locator.clone(),
            artifact,
            fingerprint: fingerprint.clone(),
            metadata,
        }));
        Ok((ValueRef::plain(artifact, value.type_name.clone(), value.media_type.clone()), fingerprint))
    }

    /// Loads a value whose artifact is gone from the IO manager that keeps a copy. Where there is none, or where it is another
    /// value than the one that was yielded, nothing is done: reading the value says that it is gone.
    async fn recover(
        &self,
        value: &ValueRef,
        (port, managers): (&Name, &std::collections::BTreeMap<Name, BoundManager>),
        asked: Asked<'_>,
    ) -> Result<(), Failure> {
        let Some(Kept { manager: name, locator }) = &value.kept else { return Ok(()) };
        let Some(bound) = managers.get(name) else { return Ok(()) };
        match self.artifacts.get(value.artifact.digest).await {
            Err(error) if matches!(error.kind, StoreErrorKind::Missing(_)) => {}
            Ok(_) | Err(_) => return Ok(()),
        }
        let Some(opened) = self.manager(name, bound, asked.said).await? else { return Ok(()) };
        let slot = asked.slot(port, &value.type_name);
        let loaded = self.load((opened.get(), &slot), locator, Check::Any, asked.limits).await;
        if let Ok(Loaded { artifact, metadata }) = loaded
            && artifact == value.artifact
        {
            asked.said.say(Saying::Loaded(LoadedValue {
                port: port.clone(),
                manager: name.clone(),
                locator: locator.clone(),
                artifact,
                fingerprint: None,
                metadata,
            }));
        }
        Ok(())
    }

    /// Loads a value into the artifact store, within the step's limit of what it may read.
    async fn load(
        &self,
        (manager, slot): (&dyn IoManager, &Slot),
        locator: &opyard_model::json::CanonicalJson,
        check: Check,
        limits: &Limits,
    ) -> Result<Loaded, Failure> {
        let verdict = Verdict::default();
        let into = self.artifacts.begin().await.map_err(|error| error.to_failure())?;
        let gauge =
            Gauge { into, check, left: limits.read_bytes.0, port: slot.port.clone(), verdict: Arc::clone(&verdict) };
        let loaded = manager.load_input(slot, locator, Box::new(gauge)).await;
        let refused = verdict.lock().unwrap_or_else(PoisonError::into_inner).take();
        match refused {
            // However the manager takes it.
            Some(failure) => Err(failure),
            None => loaded,
        }
    }
}

impl Asked<'_> {
    fn slot(&self, port: &Name, type_name: &Name) -> Slot {
        Slot {
            job: self.step.job.clone(),
            run: self.step.run,
            step: self.step.key.clone(),
            port: port.clone(),
            item: None,
            type_name: type_name.clone(),
        }
    }
}

fn no_manager() -> Failure {
    Failure::new(Code::IoManagerFailed, "a value is outside, and there is no IO manager here that would load it")
}

/// Why a value was not taken, for whoever asked for it: what a manager makes of the error is its own affair.
type Verdict = Arc<Mutex<Option<Failure>>>;

/// A value on its way in: at most so many bytes, and as its type has them. Hostile: what is loaded is whatever lies outside.
struct Gauge {
    into: Box<dyn ArtifactWriter>,
    check: Check,
    left: u64,
    port: Name,
    verdict: Verdict,
}

impl Gauge {
    fn refuse(&self, code: Code, why: &str) -> StoreError {
        let text = format!("the value loaded for '{}' {why}", self.port);
        let mut verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        verdict.get_or_insert_with(|| Failure::new(code, text.clone()));
        StoreError::new("loading an input", StoreErrorKind::Invalid(text))
    }
}

#[async_trait]
impl ArtifactWriter for Gauge {
    async fn write(&mut self, bytes: Bytes) -> Result<(), StoreError> {
        self.left = match self.left.checked_sub(bytes.len() as u64) {
            Some(left) => left,
            None => return Err(self.refuse(Code::TooLarge, "is larger than the limit `read_bytes` of the step")),
        };
        if let Err(wrong) = self.check.push(&bytes) {
            return Err(self.refuse(Code::TypeCheckFailed, &format!("is not what its type says: {wrong}")));
        }
        self.into.write(bytes).await
    }

    async fn finish(self: Box<Self>) -> Result<Put, StoreError> {
        if let Err(wrong) = self.check.finish() {
            return Err(self.refuse(Code::TypeCheckFailed, &format!("is not what its type says: {wrong}")));
        }
        self.into.finish().await
    }
}
