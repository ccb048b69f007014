//! How a run is watched: on a terminal a bar, and a line per running step; elsewhere a line per event that matters.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use opyard_server::model::event::{Recorded, RunEvent};
use opyard_server::model::id::{StepKey, StepPath};
use opyard_server::model::plan::Plan;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::render::style::{DIM, TITLE, WARN, paint};
use crate::render::{event, quantity, run, text};
use crate::report::{Report, Standing};
use crate::screen::Screen;
use crate::verbs::events;

/// Most running steps that have a line of their own.
const MAX_LINES: usize = 12;
/// How often the terminal is drawn.
const FRAME: Duration = Duration::from_millis(100);

/// Shows what happens to a run.
pub(crate) enum Watch {
    /// A terminal.
    Terminal(Box<Terminal>),
    /// A file or a pipe, for people.
    Lines(Screen),
    /// For machines: each event as JSON on a line.
    Json(Screen),
}

impl Watch {
    /// As fits whoever reads stderr.
    pub(crate) fn new(screen: Screen, plan: &Plan) -> Self {
        if screen.json() {
            Self::Json(screen)
        } else if screen.is_watched() {
            Self::Terminal(Box::new(Terminal::new(screen, plan)))
        } else {
            Self::Lines(screen)
        }
    }

    /// Takes an event that `report` has folded.
    pub(crate) fn saw(&mut self, report: &Report, recorded: &Recorded) {
        match self {
            Self::Terminal(terminal) => terminal.saw(report, recorded),
            Self::Lines(screen) => {
                if let Some(line) = run::news(report, recorded) {
                    screen.note(&line);
                }
            }
            Self::Json(screen) => screen.note_json(&events::json(recorded)),
        }
    }

    /// Says something.
    pub(crate) fn say(&self, words: &str) {
        match self {
            Self::Terminal(terminal) => terminal.say(&paint(WARN, words)),
            Self::Lines(screen) => screen.note(words),
            Self::Json(_) => {}
        }
    }

    /// Resolves when it is time to draw; never where nothing moves.
    pub(crate) async fn tick(&mut self) {
        match self {
            Self::Terminal(terminal) => {
                terminal.frames.tick().await;
            }
            Self::Lines(_) | Self::Json(_) => std::future::pending().await,
        }
    }

    /// Draws what moves.
    pub(crate) fn draw(&self) {
        if let Self::Terminal(terminal) = self {
            terminal.bar.tick();
            terminal.running.values().for_each(ProgressBar::tick);
        }
    }

    /// Takes away what moves.
    pub(crate) fn clear(&mut self) {
        if let Self::Terminal(terminal) = self {
            terminal.running.drain().for_each(|(_, line)| line.finish_and_clear());
            terminal.bar.finish_and_clear();
        }
    }
}

/// A bar for the run, and lines for the steps that run.
pub(crate) struct Terminal {
    coloured: bool,
    lines: MultiProgress,
    bar: ProgressBar,
    running: HashMap<StepKey, ProgressBar>,
    /// Running steps for which there was no line.
    unseen: usize,
    /// Mapped steps, and how many items of each are known.
    mapped: HashMap<StepPath, u64>,
    planned: u64,
    done: u64,
    frames: Interval,
}

impl Terminal {
    fn new(screen: Screen, plan: &Plan) -> Self {
        let lines = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let bar = lines.add(ProgressBar::new(plan.steps.len() as u64).with_style(bar_style()));
        bar.set_prefix(plan.job.to_string());
        let mapped = plan.steps.iter().filter(|step| step.mapped_over.is_some());
        let mut frames = interval(FRAME);
        frames.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Self {
            coloured: screen.colours_notes(),
            lines,
            bar,
            running: HashMap::new(),
            unseen: 0,
            mapped: mapped.map(|step| (step.path.clone(), 0)).collect(),
            planned: plan.steps.iter().filter(|step| step.mapped_over.is_none()).count() as u64,
            done: 0,
            frames,
        }
    }

    fn saw(&mut self, report: &Report, recorded: &Recorded) {
        let event = &recorded.event;
        match event {
            RunEvent::StepFailure { .. }
            | RunEvent::StepUpForRetry { .. }
            | RunEvent::TypeCheckFailure { .. }
            | RunEvent::HookErrored { .. }
            | RunEvent::ResourceInitFailure { .. }
            | RunEvent::LimitReached { .. }
            | RunEvent::GrantDenied { .. } => self.tell(report, recorded),
            RunEvent::Log { line, .. } if line.level >= opyard_server::model::event::Level::Warning => {
                self.tell(report, recorded);
            }
            RunEvent::RunCanceling { .. } => self.bar.set_message("canceling"),
            _ => {}
        }
        let Some(step) = event.step().and_then(|key| report.step(key)) else { return };
        match event {
            RunEvent::StepStart { of } if of.attempt == 0 && of.generation == 0 => self.known(&of.step),
            RunEvent::StepMemoized { step, .. }
            | RunEvent::StepReused { step, .. }
            | RunEvent::StepSkipped { step, .. } => self.known(step),
            _ => {}
        }
        match (&step.standing, event) {
            (Standing::Running, RunEvent::StepStart { .. }) => self.begin(&step.key),
            (Standing::Running, RunEvent::Progress { progress, .. }) => {
                if let Some(line) = self.running.get(&step.key) {
                    line.set_message(text::one_line(&event::progress(progress), 200));
                }
            }
            (standing, RunEvent::StepSuccess { .. } | RunEvent::StepFailure { .. }) => {
                self.end(&step.key, standing.is_final());
            }
            (_, RunEvent::StepUpForRetry { .. }) => self.end(&step.key, false),
            (_, RunEvent::StepMemoized { .. } | RunEvent::StepReused { .. } | RunEvent::StepSkipped { .. }) => {
                self.count(true)
            }
            (_, RunEvent::StepSuperseded { .. }) => {
                self.done = self.done.saturating_sub(1);
                self.count(false);
            }
            _ => {}
        }
    }

    /// A step of which one hears for the first time: an item makes the bar longer.
    fn known(&mut self, key: &StepKey) {
        if let Some(items) = self.mapped.get_mut(&key.path) {
            *items += 1;
        }
    }

    fn begin(&mut self, key: &StepKey) {
        if self.running.len() >= MAX_LINES {
            self.unseen += 1;
            self.bar.set_message(format!("and {} more running", self.unseen));
            return;
        }
        let line = ProgressBar::new_spinner().with_style(line_style(self.coloured));
        let line = self.lines.insert_before(&self.bar, line);
        line.set_prefix(key.to_string());
        line.tick();
        self.running.insert(key.clone(), line);
    }

    fn end(&mut self, key: &StepKey, done: bool) {
        match self.running.remove(key) {
            Some(line) => {
                line.finish_and_clear();
                self.lines.remove(&line);
            }
            None => {
                self.unseen = self.unseen.saturating_sub(1);
                let more = if self.unseen > 0 { format!("and {} more running", self.unseen) } else { String::new() };
                self.bar.set_message(more);
            }
        }
        self.count(done);
    }

    fn count(&mut self, done: bool) {
        self.done += u64::from(done);
        // A mapped step whose items are not known yet counts as one.
        let items: u64 = self.mapped.values().map(|items| (*items).max(1)).sum();
        self.bar.set_length((self.planned + items).max(self.done));
        self.bar.set_position(self.done);
    }

    fn tell(&self, report: &Report, recorded: &Recorded) {
        if let Some(line) = run::news(report, recorded) {
            self.say(&line);
        }
    }

    /// Writes a line above what moves.
    fn say(&self, line: &str) {
        let line = if self.coloured { line.to_owned() } else { anstream::adapter::strip_str(line).to_string() };
        // Whoever closed stderr does not want to know.
        drop(self.lines.println(line));
    }
}

fn time(state: &ProgressState, out: &mut dyn Write) {
    // The formatter is a string: cannot fail.
    let _ = write!(out, "{:>7}", moving(state.elapsed()));
}

/// What moves is read in tenths of a second.
fn moving(elapsed: Duration) -> String {
    let tenths = elapsed.as_millis() / 100;
    if tenths < 600 { format!("{}.{}s", tenths / 10, tenths % 10) } else { quantity::time(elapsed) }
}

fn bar_style() -> ProgressStyle {
    ProgressStyle::with_template("{prefix}  [{bar:30}] {pos}/{len} {time}  {wide_msg}")
        .expect("the template is a constant that a test draws")
        .with_key("time", time)
        .progress_chars("=> ")
}

fn line_style(coloured: bool) -> ProgressStyle {
    let template = if coloured {
        format!("  {{spinner}} {TITLE}{{prefix:16}}{TITLE:#} {DIM}{{time}}{DIM:#}  {{wide_msg}}")
    } else {
        "  {spinner} {prefix:16} {time}  {wide_msg}".to_owned()
    };
    ProgressStyle::with_template(&template)
        .expect("the template is a constant that a test draws")
        .with_key("time", time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_templates() {
        bar_style();
        line_style(true);
        line_style(false);
    }
}
