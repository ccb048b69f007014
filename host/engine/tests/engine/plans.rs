//! Random plans, and scripts that say what comes of each try of each of their steps.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use opyard_model::component::{Backoff, Jitter, RetryPolicy};
use opyard_model::condition::{Comparison, Condition};
use opyard_model::digest::{ComponentDigest, Digest, FieldHasher};
use opyard_model::error::{Code, Failure};
use opyard_model::id::{MappingKey, MediaType, Name};
use opyard_model::json::CanonicalJson;
use opyard_model::limits::Limits;
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
        outputs: vec![output("a", BaseType::Json)],
        after: Vec::new(),
        when: Trigger::AllSuccess,
        mapped_over: None,
        grants: Vec::new(),
        limits: Limits::default(),
        retry: None,
        hermetic: true,
        uses_execution: false,
        memo: Memo::Sound,
        priority: 0,
        pool: None,
        tags: BTreeMap::new(),
    }
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
        on_failure: FailurePolicy::GoOn,
        policy: RunPolicy::default(),
        pools: BTreeMap::new(),
        run_queue: RunQueue::default(),
        settings: Vec::new(),
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
    /// As one step of the ops does it: mapped steps differ by their key.
    pub(crate) fn of(self, key: Option<&MappingKey>) -> Self {
        let Some(key) = key else { return self };
        let mixed = u16::from(key.as_str().as_bytes()[1]).wrapping_mul(0x9e37) ^ self.salt;
        let fails = if mixed.is_multiple_of(5) { self.fails } else { 0 };
        Self { fails, yields: self.yields ^ (mixed >> 8) as u8, salt: mixed, ..self }
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
    fn items(self, attempt: u32) -> Vec<(MappingKey, bool)> {
        let fails = self.fails_at(attempt);
        let mask = if fails { self.items ^ (self.salt >> (attempt % 8)) as u8 } else { self.items };
        let keys = (0..6u32).filter(|bit| mask & (1 << bit) != 0);
        keys.map(|bit| (key(bit), fails && (u32::from(self.salt) >> ((bit + attempt) % 16)) & 1 == 1)).collect()
    }

    /// What a try yields, item by item, and how it ends.
    pub(crate) fn play(self, step: &Step, attempt: u32, inputs: &[BoundInput]) -> (Vec<Yielded>, StepResult) {
        let (items, result, _) = self.play_with_bytes(step, attempt, inputs);
        (items, result)
    }

    /// The same, with the bytes of all that is yielded.
    pub(crate) fn play_with_bytes(
        self,
        step: &Step,
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
            let mut value = |tag: &str, mapping_key: Option<MappingKey>| {
                let artifact = artifact(hasher.field(tag.as_bytes()).finish());
                let plain = ValueRef::plain(artifact, output.type_name.clone(), output.media_type.clone());
                Yielded { port: output.port.clone(), value: ValueRef { mapping_key, ..plain } }
            };
            if output.dynamic {
                for (key, differs) in self.items(attempt) {
                    hasher = FieldHasher::new("item");
                    let tag = if differs { format!("{key} {attempt}") } else { key.to_string() };
                    let digest = hasher.field(step.op.as_str().as_bytes()).field(tag.as_bytes()).finish();
                    let artifact = artifact(digest);
                    let plain = ValueRef::plain(artifact, output.type_name.clone(), output.media_type.clone());
                    let value = ValueRef { mapping_key: Some(key), ..plain };
                    items.push(Yielded { port: output.port.clone(), value });
                }
            } else if self.yields(ix, output) {
                outputs.push(value(output.port.as_str(), None));
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
    let mapped: Vec<_> = (0..ix).filter(|at| steps[*at].mapped_over.is_some()).collect();
    let dynamic: Vec<_> = singles.iter().copied().filter(|at| steps[*at].outputs[0].dynamic).collect();
    let plain_port = |at: usize, words: &mut Words<'_>| {
        let ports = &steps[at].outputs;
        let plain: Vec<_> = (0..ports.len()).filter(|port| !ports[*port].dynamic).collect();
        (!plain.is_empty()).then(|| slot(at, plain[words.below(plain.len())] as u16))
    };
    if !dynamic.is_empty() && words.below(2) == 1 {
        let over = slot(dynamic[words.below(dynamic.len())], 0);
        made.mapped_over = Some(over);
        let same: Vec<_> = mapped.iter().copied().filter(|at| steps[*at].mapped_over == Some(over)).collect();
        let source = match same.get(words.below(same.len() + 1)).and_then(|at| plain_port(*at, words)) {
            Some(slot) => Source::SameKey { slot },
            None => Source::Item { slot: over },
        };
        made.inputs.push(StepInput { optional: words.one_in(4), ..input("i", source) });
    }
    for at in 0..words.below(4) {
        let producer = words.below(ix);
        let source = if ix == 0 {
            continue;
        } else if steps[producer].mapped_over.is_some() || (steps[producer].outputs[0].dynamic && words.below(2) == 0) {
            let port = if steps[producer].mapped_over.is_some() {
                plain_port(producer, words)
            } else {
                Some(slot(producer, 0))
            };
            port.map(|slot| Source::Collect { slot })
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
        for input in made.inputs.iter_mut().filter(|input| !matches!(input.source, Source::Item { .. })) {
            input.optional |= !input.many;
        }
    }
    made.outputs = match words.below(6) {
        0..=2 => vec![output("a", BaseType::Json)],
        3 => vec![StepOutput { optional: true, ..output("a", BaseType::Json) }, output("b", BaseType::Nothing)],
        _ if made.mapped_over.is_some() => vec![StepOutput { optional: true, ..output("a", BaseType::Json) }],
        4 => vec![StepOutput { dynamic: true, ..output("d", BaseType::Json) }],
        _ => vec![StepOutput { dynamic: true, ..output("d", BaseType::Json) }, output("a", BaseType::Json)],
    };
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
    steps.push(made);
}

/// A random plan of up to `most` steps, and its scripts.
pub(crate) fn plans(most: usize) -> impl Strategy<Value = (Plan, Scripts)> {
    let grown = proptest::collection::vec(proptest::collection::vec(any::<u16>(), 0..40), 1..most);
    (grown, proptest::bool::weighted(0.2), tag_limits()).prop_map(|(words, fail_fast, tag_limits)| {
        let (mut steps, mut scripts) = (Vec::new(), Scripts::new());
        for words in &words {
            grow(&mut steps, &mut scripts, &mut Words(words.iter()));
        }
        let on_failure = if fail_fast { FailurePolicy::FailFast } else { FailurePolicy::GoOn };
        let policy = RunPolicy { tag_limits, ..RunPolicy::default() };
        let pools = BTreeMap::from([(name("db"), 2)]);
        (Plan { on_failure, policy, pools, ..plan(steps) }, scripts)
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
