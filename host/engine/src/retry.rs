//! What follows from the end of a try: success, another try, or failure.

use std::time::Duration;

use opyard_model::component::{Backoff, Jitter, RetryPolicy};
use opyard_model::digest::FieldHasher;
use opyard_model::error::{Code, Failure};
use opyard_model::event::{Attempt, MAX_DELAY, RunEvent};
use opyard_model::id::RunId;
use opyard_model::limits::Usage;
use opyard_model::plan::Step;
use opyard_model::time::Timestamp;

/// How often a step is taken up again, beyond its policy, after the host stopped under it: a step that brings the host
/// down each time must not do so for ever.
pub const MAX_LOST: u32 = 10;

/// Why a try did not succeed.
#[derive(Debug, Clone, PartialEq)]
pub enum Setback {
    /// It failed.
    Failed(Failure),
    /// The op asks for another try.
    AskedAgain {
        /// Why, in its own words.
        description: String,
        /// How long to wait; none = as the policy says.
        delay: Option<Duration>,
    },
    /// Whatever ran it is gone: the host stopped in the middle. Not the step's fault as far as anyone knows, so no policy
    /// is needed, up to [`MAX_LOST`] times.
    Lost,
}

/// The event that follows from a setback: `step_up_for_retry` or `step_failure`.
///
/// For a hermetic step only what the surroundings did is worth another try: its own failure would come again.
#[must_use]
pub fn after_setback(
    run: RunId,
    step: &Step,
    of: &Attempt,
    setback: Setback,
    usage: Usage,
    now: Timestamp,
) -> RunEvent {
    let fail = |failure| RunEvent::StepFailure { of: of.clone(), failure, usage };
    let again =
        |failure, delay| RunEvent::StepUpForRetry { of: of.clone(), failure, not_before: now.after(delay), usage };
    let left = step.retry.as_ref().filter(|policy| of.attempt < policy.max_retries);
    match setback {
        Setback::Lost => {
            let failure = Failure::new(Code::ExecutorLost, "the host stopped while the step ran");
            let most = step.retry.as_ref().map_or(0, |policy| policy.max_retries).saturating_add(MAX_LOST);
            if of.attempt < most { again(failure, Duration::ZERO) } else { fail(failure) }
        }
        Setback::Failed(failure) => {
            let worth_it = failure.allow_retries
                && failure.code != Code::Canceled
                && (!step.hermetic || failure.is_of_the_surroundings());
            match left {
                Some(policy) if worth_it => again(failure, wait(policy, run, of)),
                _ => fail(failure),
            }
        }
        Setback::AskedAgain { description, .. } if step.hermetic => fail(Failure::new(
            Code::RetryPointless,
            format!("asked for another try ({description}), but it depends on nothing that could change"),
        )),
        Setback::AskedAgain { description, delay } => match left {
            Some(policy) => {
                let delay = delay.unwrap_or_else(|| wait(policy, run, of)).min(MAX_DELAY);
                again(Failure::new(Code::OpFailed, format!("asked for another try: {description}")), delay)
            }
            None => fail(Failure::new(
                Code::RetriesExhausted,
                format!("asked for another try, but none of {} is left: {description}", tries(step)),
            )),
        },
    }
}

fn tries(step: &Step) -> String {
    let count = step.retry.as_ref().map_or(0, |policy| policy.max_retries);
    if count == 1 { "1 retry".to_owned() } else { format!("{count} retries") }
}

/// How long to wait before the try after `of`.
///
/// With n = 1 for the first retry: constant d, linear n·d, exponential (2^n - 1)·d; then full jitter takes a share of it,
/// plus-minus adds or takes up to one d. The share is a hash of run, step, generation and attempt: the same history
/// gives the same waits.
#[must_use]
pub fn wait(policy: &RetryPolicy, run: RunId, of: &Attempt) -> Duration {
    let n = of.attempt.saturating_add(1);
    let delay = policy.delay.min(MAX_DELAY).as_secs_f64();
    let base = match policy.backoff {
        Backoff::Constant => delay,
        Backoff::Linear => delay * f64::from(n),
        Backoff::Exponential => delay * (2f64.powi(i32::try_from(n.min(64)).unwrap_or(64)) - 1.0),
    };
    let share = share_of(run, of);
    let spread = match policy.jitter {
        Jitter::None => base,
        Jitter::Full => base * share,
        Jitter::PlusMinus => (base + delay * (2.0 * share - 1.0)).max(0.0),
    };
    Duration::from_secs_f64(spread.min(MAX_DELAY.as_secs_f64()))
}

/// A number in [0, 1) that depends on nothing but which try it is.
fn share_of(run: RunId, of: &Attempt) -> f64 {
    let mut hasher = FieldHasher::new("opyard jitter 1");
    hasher
        .field(run.to_string().as_bytes())
        .field(of.step.to_string().as_bytes())
        .field(&of.generation.to_le_bytes())
        .field(&of.attempt.to_le_bytes());
    let digest = hasher.finish();
    let word: [u8; 4] = digest.as_bytes()[..4].try_into().unwrap_or_default();
    f64::from(u32::from_le_bytes(word)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use opyard_model::id::{Name, StepKey};
    use proptest::prelude::*;

    fn of(attempt: u32) -> Attempt {
        let name = Name::new("a").expect("a name");
        Attempt { step: StepKey::plain(name.into()), generation: 0, attempt }
    }

    proptest! {
        #[test]
        fn waits_keep_within_their_formula(delay_ms in 0u64..100_000, attempt in 0u32..40, seed: u128) {
            let run = RunId::from_parts(0, seed);
            let delay = Duration::from_millis(delay_ms);
            for backoff in [Backoff::Constant, Backoff::Linear, Backoff::Exponential] {
                let at = |jitter| wait(&RetryPolicy { max_retries: 9, delay, backoff, jitter }, run, &of(attempt));
                let base = at(Jitter::None);
                prop_assert!(base <= MAX_DELAY);
                prop_assert!(at(Jitter::Full) <= base);
                let spread = at(Jitter::PlusMinus);
                prop_assert!(spread <= (base + delay).min(MAX_DELAY) && spread + delay >= base.min(MAX_DELAY));
                prop_assert_eq!(at(Jitter::Full), at(Jitter::Full));
            }
        }
    }

    #[test]
    fn formulas_are_the_documented_ones() {
        let delay = Duration::from_secs(2);
        let waits = |backoff| {
            let policy = RetryPolicy { max_retries: 9, delay, backoff, jitter: Jitter::None };
            [0, 1, 2].map(|attempt| wait(&policy, RunId::from_parts(0, 0), &of(attempt)).as_secs())
        };
        assert_eq!(waits(Backoff::Constant), [2, 2, 2]);
        assert_eq!(waits(Backoff::Linear), [2, 4, 6]);
        assert_eq!(waits(Backoff::Exponential), [2, 6, 14]);
    }
}
