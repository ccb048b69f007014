//! `run` and `rerun`: launch a job, watch it, sum it up.

use opyard_server::model::selection::Selection;
use opyard_server::{Again, Changes, LaunchOptions, PlannedJob, PlannedRerun, Project, YardError};

use crate::args::{self, Global};
use crate::error::Outcome;
use crate::exit::Exit;
use crate::place::{Place, here};
use crate::run_name;
use crate::screen::Screen;
use crate::verbs::sources::Sources;
use crate::verbs::watching::Watching;
use crate::verbs::{Prepared, note_warnings, planned, settings};

pub(crate) async fn run(global: &Global, args: args::Run, screen: &Screen) -> Outcome {
    let selection = args.select.as_deref().map(|text| Selection::parse("--select", text)).transpose()?;
    // Before they are read: what changes from here on is seen.
    let sources = args.watch.then(|| Sources::of(&Place::of_definitions(global, &args.file), &args.overlay));
    let Prepared { place, yard, plan, warnings } = Prepared::new(global, &args.file, &args.overlay, &args.job).await?;
    let plan = match &selection {
        Some(selection) => yard.select(plan, selection).await?,
        None => plan,
    };
    note_warnings(&warnings, screen);
    let options =
        LaunchOptions { tags: args.tag.iter().cloned().collect(), use_memo: !args.no_memo, ..LaunchOptions::default() };
    let mut watching = Watching::new(&yard, screen, &place.again)?;
    let mut outcome = watching.launch(plan, options.clone()).await;
    if let Some(mut sources) = sources {
        while watching.until(sources.change()).await {
            outcome = again_with(&mut watching, &place, &args.overlay, (&args.job, selection.as_ref()), &options).await;
            if let Err(error) = outcome {
                // What is wrong now may be right after the next change.
                error.report(screen);
                outcome = Ok(Exit::Wrong);
            }
        }
    }
    yard.close().await;
    outcome
}

/// Plans and runs once more, with the files as they are now.
async fn again_with(
    watching: &mut Watching<'_>,
    place: &Place,
    overlay: &args::Overlay,
    (job, selection): (&str, Option<&Selection>),
    options: &LaunchOptions,
) -> Outcome {
    let settings = settings(overlay)?;
    let PlannedJob { plan, warnings } = planned(watching.yard, place, (overlay, &settings), job).await?;
    let plan = match selection {
        Some(selection) => watching.yard.select(plan, selection).await?,
        None => plan,
    };
    note_warnings(&warnings, watching.screen);
    watching.launch(plan, options.clone()).await
}

pub(crate) async fn rerun(global: &Global, args: args::Rerun, screen: &Screen) -> Outcome {
    let again = again(&args)?;
    let place = Place::of_yard(global, &args.file, &here()?);
    let yard = place.open_existing()?;
    let run = run_name::find(&yard, &args.run).await?;
    let parent = yard.summary(run).await?;
    let mut watching = Watching::new(&yard, screen, &place.again)?;
    let changed = !args.overlay.set.is_empty() || !args.overlay.config.is_empty() || args.overlay.env.is_some();
    if !parent.status.is_final() && matches!(again, Again::FromFailure) && !changed {
        // Nobody ended it: whoever drove it is gone, or this is refused.
        yard.take_over(run).await?;
        let (plan, _) = yard.state(run).await?;
        screen.note(&format!("{run} was left unfinished; it goes on"));
        let outcome = watching.drive(run, &plan).await;
        yard.close().await;
        return outcome;
    }
    place.check_file()?;
    let changes = Changes { environment: args.overlay.env.clone(), settings: settings(&args.overlay)? };
    let project = Project::load_for(&yard, &place.file, parent.job.as_str()).await?;
    let PlannedRerun { planned: PlannedJob { plan, warnings }, lineage } =
        yard.plan_rerun(&project, &parent, &again, changes).await?;
    note_warnings(&warnings, screen);
    let tags = parent.tags.into_iter().chain(args.tag).collect();
    let options = LaunchOptions { tags, use_memo: !args.no_memo, lineage: Some(lineage) };
    let outcome = watching.launch(plan, options).await;
    yard.close().await;
    outcome
}

/// Which of the ways to run again is asked for.
fn again(args: &args::Rerun) -> Result<Again, YardError> {
    Ok(match (&args.from, &args.select) {
        (Some(text), _) => Again::From(Selection::parse("--from", text)?),
        (None, Some(text)) => Again::Selected(Selection::parse("--select", text)?),
        (None, None) if args.all => Again::All,
        (None, None) => Again::FromFailure,
    })
}
