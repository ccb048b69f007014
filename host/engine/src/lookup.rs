//! Asking the memo, and handing what it has to the IO managers.

use std::sync::Arc;
use std::time::Duration;

use opyard_model::memo::{MemoEntry, MemoKey};
use opyard_model::plan::{IoManagerSpec, Memo, Plan};
use opyard_model::step::{Said, Saying, StepExecutor, StepResult};
use opyard_store::memo::{MemoAnswer, MemoStore};
use tokio::sync::mpsc::UnboundedSender;

use crate::request::{Whose, bound_output};
use crate::tasks::{Handled, News, Try};

/// How long a claim on a key lasts; renewed while the step runs, freed this long after a crash.
pub(crate) const LEASE: Duration = Duration::from_secs(30);
/// Longest wait before a busy key is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// One step whose memo is asked.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) of: Try,
    pub(crate) key: MemoKey,
}

/// A look-up for several steps of a run.
pub(crate) struct LookUp {
    pub(crate) whose: Whose,
    pub(crate) plan: Arc<Plan>,
    pub(crate) memos: Arc<dyn MemoStore>,
    pub(crate) executor: Arc<dyn StepExecutor>,
    pub(crate) news: UnboundedSender<News>,
}

/// A memo hit says again what it said; nothing new is said by handing it on.
struct Silence;

impl Said for Silence {
    fn say(&self, _: Saying) {}
}

impl LookUp {
    /// Asks until every question has an answer: a busy key is waited for.
    pub(crate) async fn ask(self, questions: Vec<Question>) {
        let mut open = questions;
        while !open.is_empty() {
            let max_age = self.max_age(&open[0]);
            let (now, later): (Vec<_>, Vec<_>) =
                open.into_iter().partition(|question| self.max_age(question) == max_age);
            open = later;
            let keys: Vec<_> = now.iter().map(|question| question.key).collect();
            // A memo that does not answer is no reason to fail: the step runs, and is not memoised.
            let Ok(answers) = self.memos.look_up(&keys, max_age, self.whose.run, LEASE).await else {
                now.into_iter().for_each(|question| self.missed(question, false));
                continue;
            };
            let mut busy = Duration::ZERO;
            for (question, answer) in now.into_iter().zip(answers) {
                match answer {
                    MemoAnswer::Hit(entry) => self.hit(question, entry).await,
                    MemoAnswer::Miss => self.missed(question, true),
                    MemoAnswer::Busy { wait } => {
                        busy = if busy.is_zero() { wait } else { busy.min(wait) };
                        open.push(question);
                    }
                }
            }
            if !busy.is_zero() {
                tokio::time::sleep(busy.min(ASK_AGAIN)).await;
            }
        }
    }

    fn max_age(&self, question: &Question) -> Option<Duration> {
        match self.plan.step(question.of.id.step).memo {
            Memo::For(age) => Some(age),
            Memo::Off | Memo::Sound => None,
        }
    }

    fn missed(&self, question: Question, claimed: bool) {
        let _ = self.news.send(News::MemoMissed { of: question.of, key: question.key, claimed });
    }

    async fn hit(&self, question: Question, entry: Box<MemoEntry>) {
        let step = self.plan.step(question.of.id.step);
        let mut outputs = entry.outputs.clone();
        let mut handled = Vec::new();
        for yielded in &mut outputs {
            // The key names the op, so its ports are those of the plan; an entry that was tampered with is no hit.
            let Some(output) = step.outputs.iter().find(|output| output.port == yielded.port) else {
                return self.missed(question, false);
            };
            if bound_output(&self.plan, output).manager == IoManagerSpec::Artifacts {
                continue;
            }
            let request = self.whose.handle_request(&self.plan, &question.of.id, output, yielded.value.clone());
            match self.executor.execute(request, &Silence).await.result {
                StepResult::Handled(value) => {
                    handled.extend(value.kept.clone().map(|kept| Handled {
                        port: yielded.port.clone(),
                        manager: kept.manager,
                        locator: kept.locator,
                    }));
                    yielded.value = *value;
                }
                // Running the step hands its output over again, and says why that fails.
                _ => return self.missed(question, false),
            }
        }
        let _ = self.news.send(News::MemoHit { of: question.of, entry, outputs, handled });
    }
}
