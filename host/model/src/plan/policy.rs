//! What holds for a run as a whole: when it is canceled, how long it may take, what of it runs side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::flatten::Builder;
use crate::condition::Condition;
use crate::definitions::StepDefinition;
use crate::definitions::policy::unknown_step;
use crate::diagnostic::Diagnostic;
use crate::error::Code;
use crate::id::Name;

/// Least and greatest priority, of steps and of runs.
pub const PRIORITIES: std::ops::RangeInclusive<i32> = -100..=100;
/// Most conditions on which one job is canceled.
pub const MAX_CANCEL_RULES: usize = 32;
/// Longest message of such a condition, in bytes.
pub const MAX_MESSAGE: usize = 500;
/// Most limits by tag in one place.
pub const MAX_TAG_LIMITS: usize = 32;
/// Most groups that the limits by tag of one job count apart: each value of a key that is limited for `each` is one.
pub const MAX_GROUPS: usize = 1_000;
/// Highest limit of what runs side by side.
pub const MAX_SIDE_BY_SIDE: u32 = 100_000;

/// What happens to the rest of a run when a step fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailurePolicy {
    /// Whatever does not need the failed step goes on.
    #[default]
    GoOn,
    /// Nothing more starts, and what runs is canceled.
    FailFast,
}

/// What holds for a run as a whole.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunPolicy {
    /// It is canceled as soon as one of these holds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cancel_when: Vec<CancelRule>,
    /// Longest time from its start to its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Most CPU time of all of its tries together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Duration>,
    /// Where runs wait for their turn, the higher goes first. In [`PRIORITIES`].
    #[serde(skip_serializing_if = "is_zero")]
    pub priority: i32,
    /// How many of its steps run side by side, by their tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tag_limits: Vec<TagLimit>,
}

impl RunPolicy {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
pub(super) fn is_zero(number: &i32) -> bool {
    *number == 0
}

/// When a run is canceled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelRule {
    /// The condition.
    pub when: Condition,
    /// What the run is told to have been canceled for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl CancelRule {
    /// Why the run is canceled.
    #[must_use]
    pub fn reason(&self) -> String {
        self.message.clone().unwrap_or_else(|| format!("cancel_run_when: {}", self.when))
    }
}

/// How many that have some tag run side by side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TagLimit {
    /// The key of the tag.
    pub key: String,
    /// What of those that have it counts together.
    pub of: TagValues,
    /// How many. At least 1.
    pub limit: u32,
}

/// Which values of a tag count together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TagValues {
    /// All of them.
    All,
    /// Each for itself.
    Each,
    /// This one, and no other counts.
    Only(String),
}

impl TagLimit {
    /// The group that something with these tags counts in; none when it does not count. Of all groups of one limit, only
    /// those with the same name are the same.
    #[must_use]
    pub fn group<'t>(&self, tags: &'t BTreeMap<String, String>) -> Option<&'t str> {
        let value = tags.get(&self.key)?.as_str();
        match &self.of {
            TagValues::All => Some(""),
            TagValues::Each => Some(value),
            TagValues::Only(only) => (value == only).then_some(value),
        }
    }
}

/// How many runs go side by side, of all that are of one tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunQueue {
    /// Of all jobs together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// By the tags of the runs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tag_limits: Vec<TagLimit>,
}

impl RunQueue {
    /// Runs do not wait for each other.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Builder<'_> {
    /// The pool of a step, which the plan knows from then on.
    pub(super) fn pool(&mut self, step: &StepDefinition) -> Option<Name> {
        let name = &step.pool.as_ref()?.value;
        let limit = self.surroundings.definitions.pools.get(name.as_str())?.value;
        self.built.pools.insert(name.clone(), limit);
        Some(name.clone())
    }

    /// The steps that the conditions of the job name are there, and its limits by tag count not too many groups apart.
    pub(super) fn check_policy(&mut self) {
        let policy = &self.job.policy;
        // A step that could not be built is not missing: what is wrong with it was said.
        if !policy.steps.is_empty() && !self.found.has_errors() {
            let known: BTreeSet<_> = self.built.steps.iter().map(|step| step.path.as_str()).collect();
            for step in policy.steps.iter().filter(|step| !known.contains(step.value.as_str())) {
                if self.found.is_full() {
                    return;
                }
                self.found.push(unknown_step(step, known.iter().copied()));
            }
        }
        let Some(place) = &policy.tag_limits else { return };
        for limit in &policy.run.tag_limits {
            let groups: BTreeSet<_> = self.built.steps.iter().filter_map(|step| limit.group(&step.tags)).collect();
            if groups.len() > MAX_GROUPS {
                let problem = format!("the steps of this job have {} values of the tag `{}`", groups.len(), limit.key);
                let most = format!("at most {MAX_GROUPS} are counted apart");
                self.found.push(Diagnostic::error(Code::TooLarge, problem).at(place, most));
            }
            if groups.is_empty() && !self.found.has_errors() {
                let what = match &limit.of {
                    TagValues::Only(value) => format!("`{}: {value}`", limit.key),
                    TagValues::All | TagValues::Each => format!("`{}`", limit.key),
                };
                let problem = format!("no step of this job has the tag {what}");
                let keys = self.built.steps.iter().flat_map(|step| step.tags.keys()).map(String::as_str);
                let warning = Diagnostic::warning(Code::PointlessPolicy, problem);
                self.found.push(warning.at(place, "limits nothing").nearest(&limit.key, keys));
            }
        }
    }
}
