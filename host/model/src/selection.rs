//! Which steps of a job somebody means: the grammar of `--select` and `--from`.
//!
//! Dagster's grammar for op selections: `name`; `*name` with all that it needs, `name*` with all that needs it; a `+` for
//! each level instead (`+name`, `name++`); `*` for everything; several joined by commas. A name is a step's path, or that
//! of a nested graph, which means all steps in it. `tag:key=value` and `tag:key` are steps with that tag. `name[key]` is one
//! item of a mapped step, where the items are known, with all that is below it; `name[outer][inner]` where they are nested.

use std::collections::{BTreeMap, BTreeSet};

use crate::diagnostic::{Diagnostic, Diagnostics, Place, Source};
use crate::error::Code;
use crate::id::{ItemKey, StepKey, StepPath};
use crate::plan::{Plan, StepIx};

/// Longest selection, in bytes.
const MAX_TEXT: usize = 64 << 10;
/// Most clauses in one.
const MAX_CLAUSES: usize = 1_000;

/// A selection as it was written.
#[derive(Debug, Clone)]
pub struct Selection {
    clauses: Vec<Clause>,
}

#[derive(Debug, Clone)]
struct Clause {
    subject: Subject,
    up: Reach,
    down: Reach,
    place: Place,
}

#[derive(Debug, Clone)]
enum Subject {
    All,
    Steps(StepPath),
    Item(StepPath, ItemKey),
    Tag(String, Option<String>),
}

/// How far beyond the named steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    Levels(u32),
    All,
}

/// Which instances of a step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Items {
    /// None.
    #[default]
    None,
    /// Those that are for these items, or below one of them; never empty.
    Keys(BTreeSet<ItemKey>),
    /// All: the step itself, if it is not mapped.
    All,
}

impl Items {
    /// Whether the item, with all that is below it, is among them.
    pub(crate) fn hold(&self, item: &ItemKey) -> bool {
        match self {
            Self::None => false,
            Self::Keys(keys) => (0..=item.len()).any(|depth| keys.contains(&item.outer(depth))),
            Self::All => true,
        }
    }

    /// The items, no deeper than `depth`, that they are or are below.
    pub(crate) fn outer(&self, depth: usize) -> Self {
        match self {
            Self::Keys(_) | Self::All if depth == 0 => Self::All,
            Self::Keys(keys) => Self::Keys(keys.iter().map(|key| key.outer(depth)).collect()),
            Self::None | Self::All => self.clone(),
        }
    }

    /// Adds what is in `other`.
    pub(crate) fn join(&mut self, other: Self) {
        match (&mut *self, other) {
            (Self::All, _) | (_, Self::None) => {}
            (_, Self::All) => *self = Self::All,
            (Self::Keys(ours), Self::Keys(theirs)) => ours.extend(theirs),
            (Self::None, theirs) => *self = theirs,
        }
    }
}

impl Selection {
    /// Reads a selection; `option` names where it was written.
    ///
    /// # Errors
    /// `OPY-227` with the place of each clause that cannot be understood.
    pub fn parse(option: &str, text: &str) -> Result<Self, Diagnostics> {
        let source = Source::new(option, text);
        if text.len() > MAX_TEXT || text.split(',').count() > MAX_CLAUSES {
            let text = format!("a selection has at most {MAX_TEXT} bytes and {MAX_CLAUSES} clauses");
            return Err(Diagnostic::error(Code::BadSelection, text).into());
        }
        let mut found = Diagnostics::default();
        let mut clauses = Vec::new();
        let mut start = 0;
        for written in text.split(',') {
            let begin = start + (written.len() - written.trim_start().len());
            let place = source.place(begin..begin + written.trim().len());
            start += written.len() + 1;
            match Clause::parse(written.trim(), place.clone()) {
                Ok(clause) => clauses.push(clause),
                Err(problem) => found.push(
                    Diagnostic::error(Code::BadSelection, "this selects nothing that could be there")
                        .at(&place, problem)
                        .help("write `name`, `*name`, `name*`, `+name`, `name++`, `tag:key=value`; join several with commas"),
                ),
            }
        }
        found.or(Some(Self { clauses })).map(|(selection, _)| selection)
    }

    /// The steps of `plan` that are meant.
    ///
    /// # Errors
    /// `OPY-227` for each clause that matches nothing, with the nearest right name.
    pub fn resolve(&self, plan: &Plan) -> Result<BTreeMap<StepIx, Items>, Diagnostics> {
        let mut found = Diagnostics::default();
        let mut selected: BTreeMap<StepIx, Items> = BTreeMap::new();
        let mut consumers = None;
        for clause in &self.clauses {
            match clause.named(plan) {
                Ok((named, items)) => {
                    let mut add = |ix: StepIx, items: Items| selected.entry(ix).or_default().join(items);
                    named.iter().for_each(|ix| add(*ix, items.clone()));
                    let needed = |ix: StepIx| plan.step(ix).dependencies().collect::<Vec<_>>();
                    reach(&named, clause.up, needed).into_iter().for_each(|ix| add(ix, Items::All));
                    if clause.down != Reach::Levels(0) {
                        let consumers: &Vec<Vec<StepIx>> = consumers.get_or_insert_with(|| consumers_of(plan));
                        let below = |ix: StepIx| consumers[ix.index()].clone();
                        reach(&named, clause.down, below).into_iter().for_each(|ix| add(ix, Items::All));
                    }
                }
                Err(problem) => found.push(problem),
            }
        }
        found.or(Some(selected)).map(|(selected, _)| selected)
    }
}

impl Clause {
    fn parse(text: &str, place: Place) -> Result<Self, &'static str> {
        let plain = |subject| Self { subject, up: Reach::Levels(0), down: Reach::Levels(0), place: place.clone() };
        if text == "*" {
            return Ok(plain(Subject::All));
        }
        if let Some(tag) = text.strip_prefix("tag:") {
            let (key, value) = tag.split_once('=').map_or((tag, None), |(key, value)| (key, Some(value.to_owned())));
            return if key.is_empty() {
                Err("a tag has a key")
            } else {
                Ok(plain(Subject::Tag(key.to_owned(), value)))
            };
        }
        let is_mark = |c: char| c == '*' || c == '+';
        let name = text.trim_start_matches(is_mark);
        let up = Reach::parse(&text[..text.len() - name.len()])?;
        let marks = name;
        let name = name.trim_end_matches(is_mark);
        let down = Reach::parse(&marks[name.len()..])?;
        if name.is_empty() {
            return Err("names no step");
        }
        let Ok(StepKey { path, mapping }) = name.parse::<StepKey>() else { return Err("is no path of a step") };
        let subject = match (up, down) {
            _ if mapping.is_empty() => Subject::Steps(path),
            (Reach::Levels(0), Reach::Levels(0)) => Subject::Item(path, mapping),
            _ => return Err("`*` and `+` go with steps, not with one item"),
        };
        Ok(Self { subject, up, down, place })
    }

    /// The steps that it names itself.
    fn named(&self, plan: &Plan) -> Result<(Vec<StepIx>, Items), Diagnostic> {
        let matching = |holds: &dyn Fn(StepIx) -> bool| plan.indices().filter(|ix| holds(*ix)).collect::<Vec<_>>();
        let (steps, items) = match &self.subject {
            Subject::All => (matching(&|_| true), Items::All),
            Subject::Steps(path) => {
                let below = format!("{path}.");
                let holds = |ix: StepIx| {
                    let own = &plan.step(ix).path;
                    own == path || own.as_str().starts_with(&below)
                };
                (matching(&holds), Items::All)
            }
            Subject::Item(path, key) => {
                let steps = matching(&|ix| plan.step(ix).path == *path);
                let depth = steps.first().map(|ix| plan.depth(*ix));
                if let Some(depth) = depth.filter(|depth| *depth < key.len()) {
                    let found = Diagnostic::error(Code::BadSelection, format!("`{path}` has no such items"));
                    return Err(found.at(
                        &self.place,
                        match depth {
                            0 => "not mapped: it runs once".to_owned(),
                            1 => "an item of it has one key".to_owned(),
                            _ => format!("an item of it has {depth} keys"),
                        },
                    ));
                }
                (steps, Items::Keys(BTreeSet::from([key.clone()])))
            }
            Subject::Tag(key, value) => {
                let holds = |ix: StepIx| {
                    let tag = plan.step(ix).tags.get(key);
                    tag.is_some_and(|tag| value.as_ref().is_none_or(|value| value == tag))
                };
                (matching(&holds), Items::All)
            }
        };
        if steps.is_empty() {
            let problem = Diagnostic::error(Code::BadSelection, format!("the job `{}` has no such step", plan.job))
                .at(&self.place, "matches nothing");
            return Err(match &self.subject {
                Subject::Steps(path) | Subject::Item(path, _) => {
                    problem.nearest(path.as_str(), plan.steps.iter().map(|step| step.path.as_str()))
                }
                Subject::All | Subject::Tag(..) => problem.help("`opyard plan JOB` lists its steps"),
            });
        }
        Ok((steps, items))
    }
}

impl Reach {
    fn parse(marks: &str) -> Result<Self, &'static str> {
        match marks {
            "*" => Ok(Self::All),
            _ if marks.bytes().all(|byte| byte == b'+') => {
                Ok(Self::Levels(u32::try_from(marks.len()).unwrap_or(u32::MAX)))
            }
            _ => Err("either one `*`, or a `+` for each level"),
        }
    }
}

/// The steps that can be reached from `from`, without those.
fn reach(from: &[StepIx], far: Reach, next: impl Fn(StepIx) -> Vec<StepIx>) -> BTreeSet<StepIx> {
    let levels = match far {
        Reach::Levels(levels) => levels,
        Reach::All => u32::MAX,
    };
    let mut reached = BTreeSet::new();
    let mut edge: Vec<StepIx> = from.to_vec();
    for _ in 0..levels {
        let further: BTreeSet<StepIx> = edge.iter().flat_map(|ix| next(*ix)).collect();
        edge = further.into_iter().filter(|ix| reached.insert(*ix)).collect();
        if edge.is_empty() {
            break;
        }
    }
    reached
}

fn consumers_of(plan: &Plan) -> Vec<Vec<StepIx>> {
    let mut consumers = vec![Vec::new(); plan.steps.len()];
    for ix in plan.indices() {
        for producer in plan.step(ix).dependencies() {
            consumers[producer.index()].push(ix);
        }
    }
    consumers
}
