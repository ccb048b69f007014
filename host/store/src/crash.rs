//! Places at which a test may end the process, as a power cut or `kill -9` would. Always compiled in, so that what is tested
//! is what runs; one relaxed load where nothing is armed.

use std::str::FromStr;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

macro_rules! points {
    ($($variant:ident $name:literal $summary:literal;)*) => {
        /// A place at which the process may be ended.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u8)]
        pub enum CrashPoint { $(#[doc = $summary] $variant,)* }

        impl CrashPoint {
            /// Every point, in the order of a step's life.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

points! {
    RunRecorded "run_recorded" "The run is on disk; whoever asked for it has not been told.";
    LeaseTaken "lease_taken" "The run was taken over; nothing of it was done yet.";
    Decided "decided" "It is known what to do next; none of it was done.";
    Instantiated "instantiated" "A guest is loaded; it has not run.";
    InputOpened "input_opened" "A guest has opened an input.";
    OutputUploading "output_uploading" "A guest hands over a part of an output.";
    Appended "appended" "Events were accepted and folded; they are on their way to the disk.";
    PackWritten "pack_written" "Small artifacts are in the object store; no row knows them.";
    BeforeCommit "before_commit" "Everything is in the transaction; it is not committed.";
    Committed "committed" "The transaction is committed; nobody has been told.";
    LargeStored "large_stored" "A large artifact is in the object store; no row knows it.";
    MemoRecorded "memo_recorded" "A result was handed to the memo.";
    RunEnded "run_ended" "The end of the run is on disk; its claims are not let go.";
    CodeCached "code_cached" "Compiled code was written to the cache, and not yet given its name.";
}

impl FromStr for CrashPoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .iter()
            .copied()
            .find(|point| point.name() == text)
            .ok_or_else(|| format!("'{text}' is no crash point"))
    }
}

const NOTHING: u8 = u8::MAX;
static ARMED: AtomicU8 = AtomicU8::new(NOTHING);
static LEFT: AtomicU32 = AtomicU32::new(0);

/// Ends the process when it comes to `point` for the `nth` time, from 1. For tests of recovery.
pub fn arm(point: CrashPoint, nth: u32) {
    LEFT.store(nth.max(1), Ordering::SeqCst);
    ARMED.store(point as u8, Ordering::SeqCst);
}

/// Arms what a text says: `POINT:NTH`.
///
/// # Errors
/// When it says nothing that can be armed.
pub fn arm_from(text: &str) -> Result<(), String> {
    let (point, nth) = text.split_once(':').ok_or_else(|| format!("'{text}' is not POINT:NTH"))?;
    arm(point.parse()?, nth.parse().map_err(|_| format!("'{nth}' is no number"))?);
    Ok(())
}

/// The process is at `point`.
#[inline]
pub fn point(point: CrashPoint) {
    if ARMED.load(Ordering::Relaxed) == point as u8 {
        count();
    }
}

#[cold]
fn count() {
    if LEFT.fetch_sub(1, Ordering::SeqCst) == 1 {
        std::process::abort();
    }
}
