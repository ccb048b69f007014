//! `run`: launch a job, watch it, sum it up.

use std::sync::Arc;

use opyard_server::model::error::Code;
use opyard_server::model::id::RunId;
use opyard_server::model::plan::{Launch, Plan};
use opyard_server::{CancelRequest, Following, LaunchOptions, PlannedJob, Project, RunEnd, Yard, YardError};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use crate::args::{self, Global};
use crate::error::{CliError, Outcome};
use crate::exit::Exit;
use crate::place::Place;
use crate::render;
use crate::render::text::counted;
use crate::report::Report;
use crate::screen::Screen;
use crate::verbs::live::Watch;
use crate::verbs::{note_warnings, settings};

pub(crate) async fn run(global: &Global, args: args::Run, screen: &Screen) -> Outcome {
    let place = Place::of_definitions(global, &args.file);
    let settings = settings(&args.overlay)?;
    place.check_file()?;
    let yard = place.open()?;
    let project = Project::load_for(&yard, &place.file, &args.job).await?;
    let launch = Launch { job: &args.job, environment: args.overlay.env.as_deref(), settings: &settings };
    let PlannedJob { plan, warnings } = project.plan(&yard, &launch).await?;
    note_warnings(&warnings, screen);
    let plan = Arc::new(plan);
    let mut interrupts = Interrupts::new()?;
    let options = LaunchOptions { tags: args.tag.into_iter().collect(), use_memo: !args.no_memo };
    let started = yard.launch(Arc::clone(&plan), options).await?;
    if !screen.json() {
        screen.note(&format!("{}  job {}, {}", started.run, plan.job, counted(plan.steps.len(), "step")));
    }
    let watched = watch(&yard, started.run, &plan, &mut interrupts, screen).await;
    yard.close().await;
    let (end, report) = watched?;
    if screen.json() {
        screen.print_json(&render::run::json(&report))?;
    } else {
        screen.note("\n");
        screen.print(&render::run::summary(&report, &place.again))?;
    }
    Ok(Exit::of_status(end.status))
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
