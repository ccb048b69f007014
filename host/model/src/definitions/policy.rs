//! What holds for a job as a whole: `policy`.

use super::reading::{Keys, Reading, short};
use super::tree::{Key, Node, Value};
use super::{JobPolicy, Located};
use crate::condition::Condition;
use crate::diagnostic::{Diagnostic, Place};
use crate::error::Code;
use crate::id::StepPath;
use crate::plan::{
    CancelRule, FailurePolicy, MAX_CANCEL_RULES, MAX_MESSAGE, MAX_SIDE_BY_SIDE, MAX_TAG_LIMITS, PRIORITIES, RunQueue,
    TagLimit, TagValues,
};

const POLICY: Keys = Keys {
    what: "a policy",
    known: &["fail_fast", "cancel_run_when", "timeout", "cpu", "priority", "tag_limits"],
    later: &[],
};
const CANCEL: Keys = Keys { what: "a condition of `cancel_run_when`", known: &["when", "message"], later: &[] };
const TAG_LIMIT: Keys = Keys { what: "a limit by tag", known: &["key", "value", "each", "limit"], later: &[] };

const POOL: Keys = Keys { what: "a pool", known: &["limit", "description"], later: &[] };
const RUN_QUEUE: Keys = Keys { what: "`run_queue`", known: &["limit", "tag_limits"], later: &[] };

impl Reading<'_> {
    pub(super) fn pool(&mut self, node: &Node) -> Option<u32> {
        let fields = self.fields(node, &POOL)?;
        let limit = fields.require(self, "limit", "how many steps may run side by side: `limit: 2`")?;
        self.side_by_side(limit)
    }

    pub(super) fn run_queue(&mut self, node: &Node) -> Option<RunQueue> {
        let fields = self.fields(node, &RUN_QUEUE)?;
        let limit = fields.get("limit").and_then(|node| self.side_by_side(node));
        let tag_limits = fields.get("tag_limits").map(|node| self.tag_limits(node)).unwrap_or_default();
        Some(RunQueue { limit, tag_limits })
    }

    pub(super) fn policy(&mut self, node: &Node) -> Option<JobPolicy> {
        let fields = self.fields(node, &POLICY)?;
        let mut policy = JobPolicy::default();
        if fields.get("fail_fast").and_then(|node| self.boolean(node, "`fail_fast`")) == Some(true) {
            policy.on_failure = FailurePolicy::FailFast;
        }
        if let Some(node) = fields.get("cancel_run_when") {
            self.cancel_rules(node, &mut policy);
        }
        policy.run.timeout = fields.get("timeout").and_then(|node| self.duration(node));
        policy.run.cpu = fields.get("cpu").and_then(|node| self.duration(node));
        policy.run.priority = fields.get("priority").and_then(|node| self.priority(node)).unwrap_or_default();
        if let Some((key, node)) = fields.entry("tag_limits") {
            policy.tag_limits = Some(key.place.clone());
            policy.run.tag_limits = self.tag_limits(node);
        }
        Some(policy)
    }

    /// A condition, or a list of conditions, each with a message or without.
    fn cancel_rules(&mut self, node: &Node, policy: &mut JobPolicy) {
        let Value::List(items) = &node.value else { return self.cancel_rule(node, policy) };
        if items.len() > MAX_CANCEL_RULES {
            let problem = format!("`cancel_run_when` has at most {MAX_CANCEL_RULES} conditions");
            self.push(Diagnostic::error(Code::TooLarge, problem).at(&node.place, format!("has {}", items.len())));
            return;
        }
        items.iter().for_each(|item| self.cancel_rule(item, policy));
    }

    fn cancel_rule(&mut self, node: &Node, policy: &mut JobPolicy) {
        let (when, message) = if let Value::Map(_) = node.value {
            let Some(fields) = self.fields(node, &CANCEL) else { return };
            let message = fields.get("message").and_then(|node| self.message(node));
            let help = "the condition: `when: failed_steps >= 2`";
            let Some(when) = fields.require(self, "when", help) else { return };
            (when, message)
        } else {
            (node, None)
        };
        let Some(text) = self.text(when, "a condition") else { return };
        match Condition::parse(text) {
            Ok(parsed) => {
                let steps = parsed.steps.into_iter();
                policy.steps.extend(steps.map(|(value, at)| Located { place: inside(when, text, at), value }));
                policy.run.cancel_when.push(CancelRule { when: parsed.condition, message });
            }
            Err(error) => {
                let problem = format!("`{}` is not a condition", short(text));
                let place = inside(when, text, error.at.clone());
                self.push(
                    Diagnostic::error(Code::BadCondition, problem)
                        .at(&place, error.problem)
                        .help("as in `failed_steps >= 2 or (failed('load') and not tag('draft'))`"),
                );
            }
        }
    }

    fn message(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node, "`message`")?;
        if text.len() > MAX_MESSAGE {
            let problem = format!("a message has at most {MAX_MESSAGE} bytes");
            self.push(Diagnostic::error(Code::TooLarge, problem).at(&node.place, format!("has {}", text.len())));
            return None;
        }
        Some(text.to_owned())
    }

    pub(super) fn priority(&mut self, node: &Node) -> Option<i32> {
        let Value::Int(value) = node.value else { return self.shape(node, "`priority`", "a whole number") };
        let priority = i32::try_from(value).ok().filter(|priority| PRIORITIES.contains(priority));
        if priority.is_none() {
            let (least, most) = (PRIORITIES.start(), PRIORITIES.end());
            self.push(
                Diagnostic::error(Code::BadQuantity, "`priority` is out of range")
                    .at(&node.place, format!("expected {least} to {most}")),
            );
        }
        priority
    }

    /// How many may run side by side.
    pub(super) fn side_by_side(&mut self, node: &Node) -> Option<u32> {
        let limit = self.whole_number(node, "`limit`", MAX_SIDE_BY_SIDE.into())?;
        if limit == 0 {
            self.push(
                Diagnostic::error(Code::BadQuantity, "with a limit of 0 nothing would ever run")
                    .at(&node.place, "at least 1"),
            );
            return None;
        }
        u32::try_from(limit).ok()
    }

    pub(super) fn tag_limits(&mut self, node: &Node) -> Vec<TagLimit> {
        let items = self.list(node, "`tag_limits`").unwrap_or_default();
        if items.len() > MAX_TAG_LIMITS {
            let problem = format!("`tag_limits` has at most {MAX_TAG_LIMITS} entries");
            self.push(Diagnostic::error(Code::TooLarge, problem).at(&node.place, format!("has {}", items.len())));
            return Vec::new();
        }
        items.iter().filter_map(|item| self.tag_limit(item)).collect()
    }

    fn tag_limit(&mut self, node: &Node) -> Option<TagLimit> {
        let fields = self.fields(node, &TAG_LIMIT)?;
        let limit = fields.require(self, "limit", "how many may run side by side: `limit: 1`");
        let limit = limit.and_then(|node| self.side_by_side(node));
        let key = fields.require(self, "key", "the key of the tag: `key: kind`");
        let key = key.and_then(|node| self.text(node, "`key`"));
        let each = fields.get("each").map_or(Some(false), |node| self.boolean(node, "`each`"));
        let of = match (fields.entry("value"), each?) {
            (Some((Key { place, .. }, _)), true) => {
                self.push(
                    Diagnostic::error(Code::WrongShape, "a limit is for one value of a tag, or for each")
                        .at(place, "remove this, or `each`"),
                );
                return None;
            }
            (Some((_, node)), false) => TagValues::Only(self.text(node, "`value`")?.to_owned()),
            (None, true) => TagValues::Each,
            (None, false) => TagValues::All,
        };
        Some(TagLimit { key: key?.to_owned(), of, limit: limit? })
    }
}

/// The place of some bytes of a text that stands in the file: exact where it stands there letter by letter.
fn inside(node: &Node, text: &str, at: std::ops::Range<usize>) -> Place {
    match node.place.text().find(text) {
        Some(offset) if !text.is_empty() => {
            let start = node.place.range().start + offset;
            node.place.source().place(start + at.start..start + at.end)
        }
        _ => node.place.clone(),
    }
}

/// Says that a condition names a step that is not there, and what is meant perhaps.
pub(crate) fn unknown_step<'a>(step: &Located<StepPath>, known: impl IntoIterator<Item = &'a str>) -> Diagnostic {
    let known: Vec<&str> = known.into_iter().collect();
    let path = step.value.as_str();
    let diagnostic =
        Diagnostic::error(Code::UnknownStep, format!("this job has no step `{path}`")).at(&step.place, "unknown step");
    match known.iter().find(|one| one.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'))) {
        Some(inner) => diagnostic.help(format!("`{path}` is a graph: name a step of it, as in `failed('{inner}')`")),
        None => diagnostic.nearest(path, known),
    }
}
