//! Which tests of ops are run.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Test {
    /// The test file, or a folder: every file below it whose name ends with `.test.yaml`
    #[arg(default_value = ".")]
    pub(crate) path: PathBuf,
    /// This case only (may be repeated)
    #[arg(long, value_name = "NAME")]
    pub(crate) case: Vec<String>,
    /// Write the snapshots of cases that are new or different
    #[arg(long)]
    pub(crate) update: bool,
}
