//! Driving a run while it is watched: its events as they come, and the signals that end it.

use std::sync::Arc;

use opyard_server::model::error::Code;
use opyard_server::model::id::RunId;
use opyard_server::model::plan::Plan;
use opyard_server::{CancelRequest, Following, LaunchOptions, RunEnd, Yard, YardError};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::error::{CliError, Outcome};
use crate::exit::Exit;
use crate::render;
use crate::render::text::counted;
use crate::report::Report;
use crate::screen::Screen;
use crate::verbs::live::Watch;

/// A yard in which runs are driven and watched.
pub(crate) struct Watching<'a> {
    pub(crate) yard: &'a Yard,
    pub(crate) screen: &'a Screen,
    /// What a command line needs to find the same yard.
    pub(crate) again: &'a str,
    interrupts: Interrupts,
}

impl<'a> Watching<'a> {
    /// From now on the signals that end a process cancel the run that is watched.
    pub(crate) fn new(yard: &'a Yard, screen: &'a Screen, again: &'a str) -> Result<Self, CliError> {
        Ok(Self { yard, screen, again, interrupts: Interrupts::new()? })
    }

    /// Launches a run of `plan`, and drives it to its end.
    pub(crate) async fn launch(&mut self, plan: Plan, options: LaunchOptions) -> Outcome {
        let plan = Arc::new(plan);
        let started = self.yard.launch(Arc::clone(&plan), options).await?;
        self.drive(started.run, &plan).await
    }

    /// Waits for something; false when somebody asks for the end before.
    pub(crate) async fn until(&mut self, something: impl Future<Output = ()>) -> bool {
        self.screen.note("\nwatching the definitions and components; Ctrl-C ends");
        tokio::select! {
            () = something => true,
            _ = self.interrupts.next() => false,
        }
    }

    /// Drives a run to its end, and sums it up.
    pub(crate) async fn drive(&mut self, run: RunId, plan: &Plan) -> Outcome {
        if !self.screen.json() {
            self.screen.note(&format!("{run}  job {}, {}", plan.job, counted(plan.steps.len(), "step")));
        }
        let (end, report) = watch(self.yard, run, plan, &mut self.interrupts, self.screen).await?;
        if self.screen.json() {
            self.screen.print_json(&render::run::json(&report))?;
        } else {
            self.screen.note("\n");
            self.screen.print(&render::run::summary(&report, self.again))?;
        }
        Ok(Exit::of_status(end.status))
    }
}

/// Drives the run, and shows its durable events as they come.
async fn watch(
    yard: &Yard,
    run: RunId,
    plan: &Plan,
    interrupts: &mut Interrupts,
    screen: &Screen,
) -> Result<(RunEnd, Report), CliError> {
    let (cancel, canceled) = oneshot::channel::<&'static str>();
    let interrupt: CancelRequest = Box::pin(async move {
        match canceled.await {
            Ok(reason) => reason.to_owned(),
            Err(_) => std::future::pending().await,
        }
    });
    // The set is dropped, and the driving with it, however this ends.
    let mut driving = JoinSet::new();
    let driver = yard.clone();
    driving.spawn(async move { driver.drive(run, interrupt).await });

    let mut events = yard.follow(run, 0);
    let mut watch = Watch::new(*screen, plan);
    let mut report = Report::default();
    let mut cancel = Some(cancel);
    let mut end = None;
    let mut following = true;
    while end.is_none() {
        tokio::select! {
            next = events.next(), if following => match next {
                Some(recorded) => {
                    let recorded = recorded?;
                    report.apply(&recorded);
                    watch.saw(&report, &recorded);
                }
                None => following = false,
            },
            ended = driving.join_next() => end = Some(joined(ended)?),
            reason = interrupts.next() => match cancel.take() {
                Some(cancel) => {
                    watch.say("canceling: waiting for what runs to stop; once more stops at once");
                    // Nobody listens any more when the run has just ended.
                    let _ = cancel.send(reason);
                }
                None => {
                    watch.clear();
                    std::process::exit(Exit::Canceled.code().into());
                }
            },
            () = watch.tick() => watch.draw(),
        }
    }
    rest(&mut events, &mut report, &mut watch).await?;
    watch.clear();
    report.arrange(plan);
    // The loop ends with an end.
    let end = end.ok_or_else(|| CliError::new(Code::Invariant, "a run that ended has no end"))?;
    Ok((end, report))
}

/// What was durable when the run ended, and has not been shown.
async fn rest(events: &mut Following, report: &mut Report, watch: &mut Watch) -> Result<(), CliError> {
    while report.ended_at.is_none() {
        let Some(recorded) = events.next().await else { break };
        let recorded = recorded?;
        report.apply(&recorded);
        watch.saw(report, &recorded);
    }
    Ok(())
}

fn joined(ended: Option<Result<Result<RunEnd, YardError>, tokio::task::JoinError>>) -> Result<RunEnd, CliError> {
    match ended {
        Some(Ok(end)) => Ok(end?),
        Some(Err(_)) | None => {
            Err(CliError::new(Code::HostPanic, "driving the run panicked; it can be taken up again"))
        }
    }
}

/// What the user, or whoever started us, sends to make us stop.
struct Interrupts {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Interrupts {
    /// From now on the signals do not end the process.
    #[cfg(unix)]
    fn new() -> Result<Self, CliError> {
        use tokio::signal::unix::{SignalKind, signal};
        let refused = |error: std::io::Error| {
            CliError::new(Code::FileUnreadable, format!("the system lets nobody listen for signals: {error}"))
        };
        let interrupt = signal(SignalKind::interrupt()).map_err(refused)?;
        Ok(Self { interrupt, terminate: signal(SignalKind::terminate()).map_err(refused)? })
    }

    #[cfg(not(unix))]
    fn new() -> Result<Self, CliError> {
        Ok(Self {})
    }

    /// Waits for the next, and says what it is.
    #[cfg(unix)]
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            Some(()) = self.interrupt.recv() => "interrupted at the terminal (SIGINT)",
            Some(()) = self.terminate.recv() => "told to end (SIGTERM)",
            else => std::future::pending().await,
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> &'static str {
        match tokio::signal::ctrl_c().await {
            Ok(()) => "interrupted at the terminal (Ctrl-C)",
            Err(_) => std::future::pending().await,
        }
    }
}
