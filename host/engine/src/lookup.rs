//! Asking the memo, and handing what it has to the IO managers.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use opyard_model::event::TypeChecked;
use opyard_model::memo::{MemoEntry, MemoKey};
use opyard_model::plan::{IoManagerSpec, Memo, Plan};
use opyard_model::step::{CheckCall, Said, Saying, StepExecutor, StepResult};
use opyard_model::value::Yielded;
use opyard_store::event_log::Durable;
use opyard_store::memo::{MemoAnswer, MemoStore};
use tokio::sync::mpsc::UnboundedSender;

use crate::request::{Typed, Whose, bound_output, check_outputs, typed};
use crate::tasks::{Handled, News, Try};

/// How long a claim on a key lasts; renewed while the step runs, freed this long after a crash.
pub(crate) const LEASE: Duration = Duration::from_secs(30);
/// Longest wait before a busy key is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How many hits of one look-up are handed to IO managers at a time.
const HANDLED_AT_ONCE: usize = 8;

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
    /// All that was appended before the question.
    pub(crate) durable: Option<Durable>,
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
            let (mut busy, mut wait) = (Vec::new(), ASK_AGAIN);
            let mut hits = Vec::new();
            while let Some(first) = open.first() {
                let max_age = self.max_age(first);
                let (now, later): (Vec<_>, Vec<_>) =
                    open.into_iter().partition(|question| self.max_age(question) == max_age);
                open = later;
                let keys: Vec<_> = now.iter().map(|question| question.key).collect();
                // A memo that does not answer is no reason to fail: the step runs, and is not memoised.
                let answers = self.memos.look_up(&keys, max_age, self.whose.run, LEASE).await.unwrap_or_default();
                let mut answers = answers.into_iter();
                for question in now {
                    match answers.next() {
                        Some(MemoAnswer::Hit(entry)) => hits.push((question, entry)),
                        Some(MemoAnswer::Miss) => self.missed(question, true),
                        Some(MemoAnswer::Busy { wait: left }) => {
                            wait = wait.min(left);
                            busy.push(question);
                        }
                        None => self.missed(question, false),
                    }
                }
            }
            futures::stream::iter(hits)
                .for_each_concurrent(HANDLED_AT_ONCE, |(question, entry)| self.hit(question, entry))
                .await;
            open = busy;
            if !open.is_empty() {
                tokio::time::sleep(wait.max(ASK_AGAIN / 50)).await;
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
        // The key names the op, so its ports are those of the plan; an entry that was tampered with is no hit.
        if check_outputs(step, &question.of.id.key, &entry.outputs).is_err() {
            return self.missed(question, false);
        }
        let mut outputs = entry.outputs.clone();
        for one in &mut outputs {
            // What the value is taken for is said by the plan of now; consumers are keyed by it.
            if let Some(output) = step.outputs.iter().find(|output| output.port == one.port) {
                one.value.type_name.clone_from(&output.type_name);
            }
        }
        let checked = self.check_types(&question, &entry, &outputs).await;
        let Some(checked) = checked else { return self.missed(question, false) };
        let mut handled = Vec::new();
        for yielded in &mut outputs {
            let Some(output) = step.outputs.iter().find(|output| output.port == yielded.port) else {
                return self.missed(question, false);
            };
            if bound_output(&self.plan, output).manager == IoManagerSpec::Artifacts {
                continue;
            }
            // The first effect outside: what the step builds on has to be on disk.
            if let Some(durable) = &self.durable
                && durable.wait().await.is_err()
            {
                return; // The run is folded again from disk.
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
        let _ = self.news.send(News::MemoHit { of: question.of, entry, outputs, checked, handled });
    }

    /// Checks what the entry holds against the types of now, where that was not done before. None: something of it is not what
    /// its type says (running the step tells so), or nobody knows.
    async fn check_types(
        &self,
        question: &Question,
        entry: &MemoEntry,
        outputs: &[Yielded],
    ) -> Option<Vec<TypeChecked>> {
        let step = self.plan.step(question.of.id.step);
        let tenant = &self.whose.tenant;
        let open: Vec<_> = typed(&self.plan, step, outputs)
            .map(|typed| (typed.key(tenant), typed))
            .filter(|(key, _)| !entry.checked.contains(key))
            .collect();
        let mut checked = Vec::new();
        if open.is_empty() {
            return Some(checked);
        }
        let keys: Vec<_> = open.iter().map(|(key, _)| *key).collect();
        let answers = self.memos.look_up(&keys, None, self.whose.run, LEASE).await.unwrap_or_default();
        let is_known = |nth: usize| matches!(answers.get(nth), Some(MemoAnswer::Hit(_)));
        let mut is_right = true;
        for (nth, (key, Typed { port, check, values })) in open.into_iter().enumerate() {
            if is_known(nth) {
                continue;
            }
            if is_right {
                let values = values.into_iter().cloned().collect();
                let call = CheckCall { port: port.clone(), check: check.clone(), values };
                let request = self.whose.check_request(&self.plan, &question.of.id, call);
                if let StepResult::Checked(passed) = self.executor.execute(request, &Silence).await.result {
                    checked.extend(passed);
                    let fact = MemoEntry { key, outputs: Vec::new(), said: Vec::new(), ..entry.clone() };
                    // Without a record the check is made again another time.
                    if self.memos.record(MemoEntry { checked: Vec::new(), ..fact }).await.is_ok() {
                        continue;
                    }
                } else {
                    is_right = false;
                }
            }
            let _ = self.memos.release(key, self.whose.run).await;
        }
        is_right.then_some(checked)
    }
}
