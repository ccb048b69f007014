//! Arguments of verbs about where components and values come from.

use std::path::PathBuf;

use clap::Args;
use opyard_server::model::supply::{OciReference, TrustedKey};

use super::File;

#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// Get this component, `namespace/name:tag`, into a file; without it, those of the definitions are pinned
    #[arg(value_name = "REFERENCE", requires = "output_file")]
    pub(crate) reference: Option<OciReference>,
    /// Write the component to this file
    #[arg(short, long, value_name = "FILE", requires = "reference")]
    pub(crate) output_file: Option<PathBuf>,
    /// Pin what tags name now, where they were moved
    #[arg(long, conflicts_with = "reference")]
    pub(crate) update: bool,
    /// Let an older version take the place of a newer one
    #[arg(long, conflicts_with = "reference")]
    pub(crate) allow_downgrade: bool,
    #[command(flatten)]
    pub(crate) file: File,
}

#[derive(Debug, Args)]
pub(crate) struct Push {
    /// The component file
    pub(crate) component: PathBuf,
    /// Where to: `namespace/name:tag`
    pub(crate) reference: OciReference,
    /// Its version, where the tag says none
    #[arg(long, value_name = "VERSION")]
    pub(crate) version: Option<String>,
    /// Let the tag name this component, though it names another
    #[arg(long)]
    pub(crate) replace: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// The component file
    pub(crate) component: PathBuf,
    /// Where it was pushed: `namespace/name:tag`
    pub(crate) reference: OciReference,
    /// The private key: PEM (PKCS #8), Ed25519
    #[arg(long, value_name = "FILE")]
    pub(crate) key: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyComponent {
    /// Which: `namespace/name:tag`, or `namespace/name@sha256:…`
    pub(crate) reference: OciReference,
    /// Demand a signature by this key, beside those whom the operator trusts: the line of its PEM file
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<TrustedKey>,
}

#[derive(Debug, Args)]
pub(crate) struct Provenance {
    /// The run: its id, the beginning or the end of it, or `latest`
    pub(crate) run: String,
    /// `STEP.OUTPUT`, `STEP` for its only output, `STEP.OUTPUT[KEY]` for an item
    #[arg(value_name = "STEP.OUTPUT")]
    pub(crate) output: String,
    #[command(flatten)]
    pub(crate) file: File,
}

#[derive(Debug, Args)]
pub(crate) struct VerifyRun {
    /// The run: its id, the beginning or the end of it, or `latest`
    #[arg(default_value = "latest")]
    pub(crate) run: String,
    /// Execute in this yard, which is made if it is not there; without it, in the run's own
    #[arg(long, value_name = "DIR")]
    pub(crate) at: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) file: File,
}
