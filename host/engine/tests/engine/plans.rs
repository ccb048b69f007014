//! Random plans, and scripts that say what comes of each try of each of their steps.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use opyard_model::component::{Backoff, Jitter, RetryPolicy};
use opyard_model::condition::{Comparison, Condition};
use opyard_model::digest::{ComponentDigest, Digest, FieldHasher};
use opyard_model::error::{Code, Failure};
use opyard_model::hook::{Hook, HookAction, HookIx, Outcome, Webhook, WebhookBody, WebhookUrl};
use opyard_model::id::{ItemKey, MappingKey, MediaType, Name};
use opyard_model::json::CanonicalJson;
use opyard_model::plan::{
    BaseType, FailurePolicy, Memo, OutputSlot, Plan, RunPolicy, RunQueue, Source, Step, StepInput, StepIx, StepOutput,
    TagLimit, TagValues, Trigger,
};
use opyard_model::step::{BoundInput, StepResult};
use opyard_model::value::{ArtifactRef, ValueRef, Yielded};
use proptest::prelude::*;

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn output(port: &str, base: BaseType) -> StepOutput {
    StepOutput {
        port: name(port),
        type_name: name(base.name()),
        base,
        media_type: MediaType::new("application/json").unwrap(),
        optional: false,
        dynamic: false,
        io_manager: name("default"),
    }
}

pub(crate) fn input(port: &str, source: Source) -> StepInput {
    let many = matches!(source, Source::FanIn { .. } | Source::Collect { .. });
    StepInput { port: name(port), optional: false, many, source }
}

/// A hermetic, memoised step with one plain output, `a`.
pub(crate) fn step(path: &str, inputs: Vec<StepInput>) -> Step {
    Step {
        path: name(path).into(),
        component_name: name("c"),
        component: ComponentDigest::from_bytes([7; 32]),
        op: name(path),
        config: CanonicalJson::empty_object(),
        inputs,
        outputs: [output("a", BaseType::Json)].into(),
        after: Vec::new(),
        when: Trigger::AllSuccess,
        mapped_over: None,
        grants: Vec::new(),
        limits: Arc::default(),
        retry: None,
        hermetic: true,
        uses_execution: false,
        memo: Memo::Sound,
        hooks: Vec::new(),
        priority: 0,
        pool: None,
        tags: BTreeMap::new(),
    }
}

/// One hook for each outcome, and a second for failures.
pub(crate) fn hooks() -> Vec<Hook> {
    let outcomes = [Outcome::Success, Outcome::Failure, Outcome::Retry, Outcome::Failure];
    let webhook = Webhook {
        url: WebhookUrl::Text("https://hooks.example".into()),
        body: WebhookBody::Occasion,
        headers: BTreeMap::new(),
        allow_private: false,
        timeout: Webhook::TIMEOUT,
    };
    outcomes.map(|on| Hook { on, action: HookAction::Webhook(Box::new(webhook.clone())) }).into()
}

pub(crate) fn plan(steps: Vec<Step>) -> Plan {
    Plan {
        job: name("job"),
        environment: None,
        tags: BTreeMap::new(),
        steps,
        resources: BTreeMap::new(),
        secrets: BTreeMap::new(),
        io_managers: BTreeMap::new(),
        types: BTreeMap::new(),
        hooks: Vec::new(),
        job_hooks: Vec::new(),
        on_failure: FailurePolicy::GoOn,
        policy: RunPolicy::default(),
        pools: BTreeMap::new(),
        run_queue: RunQueue::default(),
        settings: Vec::new(),
        origins: BTreeMap::new(),
        reuse: Vec::new(),
    }
}

pub(crate) fn slot(step: usize, port: u16) -> OutputSlot {
    OutputSlot { step: StepIx(step as u32), port }
}

pub(crate) fn retries(max_retries: u32) -> Option<RetryPolicy> {
    let delay = Duration::from_secs(2);
    Some(RetryPolicy { max_retries, delay, backoff: Backoff::Exponential, jitter: Jitter::Full })
}

/// What comes of each try of the steps of one op.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Script {
    /// So many tries fail; `u8::MAX` = all.
    pub(crate) fails: u8,
    /// Which ports yield something, of those that may be left out.
    pub(crate) yields: u8,
    /// The items that are yielded in the end.
    pub(crate) items: u8,
    /// Decides whatever else there is to decide.
    pub(crate) salt: u16,
}

pub(crate) type Scripts = BTreeMap<Name, Script>;

impl Script {
    /// As one step of the ops does it: mapped steps differ by their items.
    pub(crate) fn of(self, item: &ItemKey) -> Self {
        item.iter().fold(self, |script, key| {
            let mixed = u16::from(key.as_str().as_bytes()[1]).wrapping_mul(0x9e37) ^ script.salt;
            let fails = if mixed.is_multiple_of(5) { self.fails } else { 0 };
            // Fewer items below each, so that runs stay small.
            let items = (script.items ^ (mixed >> 4) as u8) & 0b1011;
            Self { fails, yields: script.yields ^ (mixed >> 8) as u8, items, salt: mixed }
        })
    }

    /// The items that come on a port in the end.
    pub(crate) fn items_on(self, port: usize) -> u8 {
        self.items.rotate_left(port as u32) & 63
    }

    pub(crate) fn succeeds(self) -> bool {
        self.fails != u8::MAX
    }

    fn fails_at(self, attempt: u32) -> bool {
        u32::from(self.fails) > attempt || !self.succeeds()
    }

    pub(crate) fn yields(self, ix: usize, output: &StepOutput) -> bool {
        output.base != BaseType::Nothing && (!output.optional || self.yields & (1 << (ix % 8)) != 0)
    }

    /// The items of a try: key, and whether it differs from that of the last try.
    fn items(self, port: usize, attempt: u32) -> Vec<(MappingKey, bool)> {
        let fails = self.fails_at(attempt);
        let mask = self.items_on(port);
        let mask = if fails { mask ^ (self.salt >> (attempt % 8)) as u8 } else { mask };
        let keys = (0..6u32).filter(|bit| mask & (1 << bit) != 0);
        keys.map(|bit| (key(bit), fails && (u32::from(self.salt) >> ((bit + attempt) % 16)) & 1 == 1)).collect()
    }

    /// What a try yields, item by item, and how it ends.
    pub(crate) fn play(
        self,
        step: &Step,
        item: &ItemKey,
        attempt: u32,
        inputs: &[BoundInput],
    ) -> (Vec<Yielded>, StepResult) {
        let (items, result, _) = self.play_with_bytes(step, item, attempt, inputs);
        (items, result)
    }

    /// The same, with the bytes of all that is yielded.
    pub(crate) fn play_with_bytes(
        self,
        step: &Step,
        item: &ItemKey,
        attempt: u32,
        inputs: &[BoundInput],
    ) -> (Vec<Yielded>, StepResult, Vec<Bytes>) {
        let mut bytes = Vec::new();
        let mut artifact = |digest: Digest| {
            let text = digest.to_string();
            let artifact = ArtifactRef::of(text.as_bytes());
            bytes.push(Bytes::from(text));
            artifact
        };
        let mut hasher = FieldHasher::new("value");
        hasher.field(step.op.as_str().as_bytes());
        for value in inputs.iter().flat_map(|input| input.bound.values()) {
            hasher.field(value.identity().as_bytes());
        }
        let mut items = Vec::new();
        let mut outputs = Vec::new();
        for (ix, output) in step.outputs.iter().enumerate() {
            let mut value = |digest: Digest, mapping_key: ItemKey| {
                let plain = ValueRef::plain(artifact(digest), output.type_name.clone(), output.media_type.clone());
                Yielded { port: output.port.clone(), value: ValueRef { mapping_key, ..plain } }
            };
            if output.dynamic {
                for (key, differs) in self.items(ix, attempt) {
                    let tag = if differs { format!("{key} {attempt}") } else { key.to_string() };
                    let digest = hasher.clone().field(output.port.as_str().as_bytes()).field(tag.as_bytes()).finish();
                    items.push(value(digest, item.child(&key)));
                }
            } else if self.yields(ix, output) {
                let digest = hasher.clone().field(output.port.as_str().as_bytes()).finish();
                outputs.push(value(digest, item.clone()));
            }
        }
        let surroundings = || StepResult::Failure(Failure::new(Code::ResourceUnavailable, "away"));
        let result = if !self.fails_at(attempt) {
            outputs.extend(items.iter().cloned());
            StepResult::Success { outputs, memoisable: true }
        } else if !self.succeeds() && self.salt.is_multiple_of(3) {
            let failure = Failure::new(Code::OpFailed, "no");
            StepResult::Failure(Failure { allow_retries: self.salt.is_multiple_of(2), ..failure })
        } else if step.hermetic || self.salt % 3 == 1 {
            surroundings()
        } else {
            StepResult::Retry {
                description: "later".into(),
                delay: (self.salt.is_multiple_of(2)).then_some(Duration::ZERO),
            }
        };
        (items, result, bytes)
    }
}

pub(crate) fn key(ix: u32) -> MappingKey {
    MappingKey::new(&format!("k{ix}")).unwrap()
}

/// Takes decisions from a list of random words, so that cases shrink to few and small ones.
struct Words<'a>(std::slice::Iter<'a, u16>);

impl Words<'_> {
    fn below(&mut self, bound: usize) -> usize {
        usize::from(*self.0.next().unwrap_or(&0)) % bound.max(1)
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == count - 1
    }
}

/// The dynamic outputs that a step is mapped over, outermost first.
fn levels(steps: &[Step], at: usize) -> Vec<OutputSlot> {
    let around = |slot: &OutputSlot| steps[slot.step.index()].mapped_over;
    let mut levels: Vec<_> = std::iter::successors(steps[at].mapped_over, around).collect();
    levels.reverse();
    levels
}

/// Adds one random step that builds on those before it.
fn grow(steps: &mut Vec<Step>, scripts: &mut Scripts, words: &mut Words<'_>) {
    let ix = steps.len();
    let mut made = step(&format!("s{ix}"), Vec::new());
    if ix > 0 && words.one_in(8) {
        // The same step once more.
        let twin = steps[words.below(ix)].clone();
        steps.push(Step { path: made.path, ..twin });
        return;
    }
    made.hermetic = !words.one_in(3);
    made.memo = if made.hermetic && !words.one_in(4) { Memo::Sound } else { Memo::Off };
    let singles: Vec<_> = (0..ix).filter(|at| steps[*at].mapped_over.is_none()).collect();
    let dynamic: Vec<_> = (0..ix).filter(|at| steps[*at].outputs[0].dynamic && levels(steps, *at).len() < 3).collect();
    let plain_port = |at: usize, words: &mut Words<'_>| {
        let ports = &steps[at].outputs;
        let plain: Vec<_> = (0..ports.len()).filter(|port| !ports[*port].dynamic).collect();
        (!plain.is_empty()).then(|| slot(at, plain[words.below(plain.len())] as u16))
    };
    let mut own = Vec::new();
    if !dynamic.is_empty() && words.below(2) == 1 {
        let over = slot(dynamic[words.below(dynamic.len())], 0);
        made.mapped_over = Some(over);
        own = levels(steps, over.step.index());
        own.push(over);
        let around: Vec<_> =
            (0..ix).filter(|at| steps[*at].mapped_over.is_some() && own.starts_with(&levels(steps, *at))).collect();
        let source = match around.get(words.below(around.len() + 1)).and_then(|at| plain_port(*at, words)) {
            Some(slot) => Source::SameKey { slot },
            None => Source::Item { slot: own[own.len() - 1 - words.below(own.len().min(2))] },
        };
        made.inputs.push(StepInput { optional: words.one_in(4), ..input("i", source) });
        if steps[over.step.index()].outputs.get(1).is_some_and(|output| output.dynamic) && words.below(2) == 1 {
            let zipped = Source::Item { slot: OutputSlot { port: 1, ..over } };
            made.inputs.push(StepInput { optional: words.below(2) == 0, ..input("z", zipped) });
        }
    }
    for at in 0..words.below(4) {
        if ix == 0 {
            continue;
        }
        let producer = words.below(ix);
        let around = levels(steps, producer);
        let source = if steps[producer].outputs[0].dynamic && words.below(2) == 0 {
            let depth = if own.starts_with(&around) && words.below(3) > 0 { around.len() } else { 0 };
            Some(Source::Collect { slot: slot(producer, 0), depth: depth as u8 })
        } else if let Some((_, outer)) = around.split_last() {
            let depth = if own.starts_with(outer) && words.below(3) > 0 { outer.len() } else { 0 };
            plain_port(producer, words).map(|slot| Source::Collect { slot, depth: depth as u8 })
        } else if words.one_in(3) {
            let some = (0..1 + words.below(3)).filter_map(|_| plain_port(singles[words.below(singles.len())], words));
            Some(Source::FanIn { slots: some.collect() })
        } else {
            plain_port(producer, words).map(|slot| Source::Output { slot })
        };
        let source = source.unwrap_or(Source::Unconnected);
        let optional = source == Source::Unconnected || words.one_in(3);
        made.inputs.push(StepInput { optional, ..input(&format!("p{at}"), source) });
    }
    if ix > 0 && words.one_in(5) {
        made.after.push(StepIx(words.below(ix) as u32));
    }
    made.when = Trigger::ALL[words.below(8).saturating_sub(4)].1;
    if made.when != Trigger::AllSuccess {
        // As planning wants it.
        let own = |input: &StepInput| matches!(&input.source, Source::Item { slot } if own.contains(slot));
        for input in made.inputs.iter_mut().filter(|input| !own(input)) {
            input.optional |= !input.many;
        }
    }
    made.outputs = match words.below(6) {
        0..=2 => vec![output("a", BaseType::Json)],
        3 => vec![StepOutput { optional: true, ..output("a", BaseType::Json) }, output("b", BaseType::Nothing)],
        4 if words.below(2) == 1 => {
            ["d", "e"].map(|port| StepOutput { dynamic: true, ..output(port, BaseType::Json) }).to_vec()
        }
        4 => vec![StepOutput { dynamic: true, ..output("d", BaseType::Json) }],
        _ => vec![StepOutput { dynamic: true, ..output("d", BaseType::Json) }, output("a", BaseType::Json)],
    }
    .into();
    let most = words.below(3) as u32;
    made.priority = words.below(7) as i32 - 3;
    if words.one_in(4) {
        made.pool = Some(name("db"));
    }
    if words.one_in(3) {
        made.tags.insert("kind".into(), ["a", "b"][words.below(2)].into());
    }
    made.retry = if most > 0 { retries(most) } else { None };
    let fails = match words.below(8) {
        7 => u8::MAX,
        6 | 5 => words.below(most as usize + 1) as u8,
        4 => most as u8,
        _ => 0,
    };
    let script = Script {
        fails,
        yields: words.below(256) as u8,
        items: words.below(64) as u8,
        salt: words.below(1 << 16) as u16,
    };
    scripts.insert(made.op.clone(), script);
    let told = words.below(16);
    made.hooks = (0..4).filter(|bit| told & (1 << bit) != 0).map(HookIx).collect();
    steps.push(made);
}

/// A random plan of up to `most` steps, and its scripts.
pub(crate) fn plans(most: usize) -> impl Strategy<Value = (Plan, Scripts)> {
    let grown = proptest::collection::vec(proptest::collection::vec(any::<u16>(), 0..40), 1..most);
    let with = proptest::bool::weighted;
    (grown, with(0.2), with(0.2), tag_limits()).prop_map(|(words, fail_fast, all_told, tag_limits)| {
        let (mut steps, mut scripts) = (Vec::new(), Scripts::new());
        for words in &words {
            grow(&mut steps, &mut scripts, &mut Words(words.iter()));
        }
        let on_failure = if fail_fast { FailurePolicy::FailFast } else { FailurePolicy::GoOn };
        let job_hooks = if all_told { vec![HookIx(0), HookIx(1), HookIx(2)] } else { Vec::new() };
        if all_told {
            // Each is told once.
            steps.iter_mut().for_each(|step| step.hooks.retain(|hook| !job_hooks.contains(hook)));
        }
        let policy = RunPolicy { tag_limits, ..RunPolicy::default() };
        let pools = BTreeMap::from([(name("db"), 2)]);
        (Plan { on_failure, policy, pools, hooks: hooks(), job_hooks, ..plan(steps) }, scripts)
    })
}

fn tag_limits() -> impl Strategy<Value = Vec<TagLimit>> {
    let of = prop_oneof![Just(TagValues::All), Just(TagValues::Each), Just(TagValues::Only("b".into()))];
    let limit = (of, 1u32..4).prop_map(|(of, limit)| TagLimit { key: "kind".into(), of, limit });
    proptest::collection::vec(limit, 0..3)
}

/// A condition that, once it holds, holds for good, on failures that are not provisional.
pub(crate) fn conditions(plan: &Plan) -> impl Strategy<Value = Condition> + use<> {
    let steady = plan.steps.iter().filter(|step| step.mapped_over.is_none()).map(|step| step.path.clone());
    let steps: Vec<_> = steady.collect();
    let all_steady = steps.len() == plan.steps.len();
    let failed = any::<proptest::sample::Index>().prop_map(move |ix| match steps.get(ix.index(steps.len().max(1))) {
        Some(step) => Condition::Failed { step: step.clone() },
        None => Condition::Tag { key: "none".into(), value: None },
    });
    let count = (1u32..4).prop_map(move |count| match all_steady {
        true => Condition::FailedSteps { is: Comparison::AtLeast, count },
        false => Condition::Tag { key: "none".into(), value: None },
    });
    prop_oneof![failed.clone(), failed, count].prop_recursive(3, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 1..3).prop_map(Condition::Any),
            proptest::collection::vec(inner, 1..3).prop_map(Condition::All),
        ]
    })
}
