//! What is asked about assets and series.

use clap::Args;

use super::File;

#[derive(Debug, Args)]
pub(crate) struct Assets {
    /// The asset, its names joined by `/`, or as a JSON array; without it, all are listed
    pub(crate) asset: Option<String>,
    /// At most so many assets; of one asset, so many events, the newest
    #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
    #[command(flatten)]
    pub(crate) file: File,
}

#[derive(Debug, Args)]
pub(crate) struct Metrics {
    /// The series; without it, all are listed
    pub(crate) series: Option<String>,
    /// At most so many series; of one series, so many points, the newest
    #[arg(short = 'n', long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) limit: u16,
    #[command(flatten)]
    pub(crate) file: File,
}
