//! A definitions file and the components that it names.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use opyard_model::component::ComponentDescription;
use opyard_model::definitions::{ComponentPlace, Definitions};
use opyard_model::diagnostic::{Diagnostic, Diagnostics, MAX_SOURCE, Source};
use opyard_model::error::{Blame, Code, Failure};
use opyard_model::id::Name;
use opyard_model::limits::Limits;
use opyard_model::plan::{Catalog, ConfigurableStep, Launch, Plan, Planning, configurable};
use opyard_model::supply::Locked;

use crate::components;
use crate::error::YardError;
use crate::stored::Known;
use crate::supply::{LockFile, Obtained};
use crate::yard::Yard;

/// What is to be done about a file of the code cache that was altered.
const ALTERED: &str =
    "nobody but Opyard's own user should be able to write into the yard; if nobody did, look at the disk";

/// A definitions file, parsed, with its components described: all that is needed to plan its jobs.
#[derive(Debug)]
pub struct Project {
    path: PathBuf,
    definitions: Definitions,
    catalog: Catalog,
    /// What was found out about the yard while its components were loaded.
    notices: Diagnostics,
}

/// A job that can be run, and what there is to say about it.
#[derive(Debug)]
pub struct PlannedJob {
    /// What would run.
    pub plan: Plan,
    /// Things that are allowed, but probably not meant.
    pub warnings: Diagnostics,
}

impl Project {
    /// Reads the file at `path`, and asks every component that it names what it ships.
    ///
    /// # Errors
    /// All that is wrong with the file and its components.
    pub async fn load(yard: &Yard, path: &Path) -> Result<Self, YardError> {
        Self::load_some(yard, path, None).await
    }

    /// As [`load`](Self::load), with only the components that `job` needs.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub async fn load_for(yard: &Yard, path: &Path, job: &str) -> Result<Self, YardError> {
        Self::load_some(yard, path, Some(job)).await
    }

    async fn load_some(yard: &Yard, path: &Path, job: Option<&str>) -> Result<Self, YardError> {
        let (definitions, path) = Self::parse(path)?;
        let pins = Pins::of(&definitions, &path)?;
        let all: BTreeSet<Name> = definitions.components().map(|(name, _)| name.clone()).collect();
        let mut needed = job.map_or(all, |job| definitions.components_of(job));
        let mut described = BTreeMap::new();
        let mut problems = Diagnostics::default();
        pins.describe_some(yard, &definitions, &needed, (&mut described, &mut problems)).await?;
        // What the ops say of their ports says whose type checkers are needed.
        needed = definitions.components_of_types(described.values());
        pins.describe_some(yard, &definitions, &needed, (&mut described, &mut problems)).await?;
        if problems.has_errors() {
            return Err(problems.into());
        }
        pins.write()?;
        let mut notices = Diagnostics::default();
        for report in yard.take_cache_integrity() {
            let Failure { code, description, .. } = report.to_failure();
            notices.push(Diagnostic::warning(code, description).help(ALTERED));
        }
        Ok(Self { path, definitions, catalog: described.into_iter().collect(), notices })
    }

    /// The component files that a definitions file names, without looking at them.
    ///
    /// # Errors
    /// All that is wrong with the definitions.
    pub fn component_files(path: &Path) -> Result<Vec<PathBuf>, YardError> {
        let (definitions, _) = Self::parse(path)?;
        let files = definitions.components().filter_map(|(_, place)| match place {
            ComponentPlace::File(file) => Some(file.clone()),
            // What it is pinned to does not change by itself.
            ComponentPlace::Oci(_) => None,
        });
        Ok(files.collect())
    }

    /// Reads and parses the file alone.
    pub(crate) fn parse(path: &Path) -> Result<(Definitions, PathBuf), YardError> {
        let (source, path) = read_source(path, "definitions file")?;
        Ok((Definitions::parse(&source, path.parent().unwrap_or(&path))?, path))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says.
    #[must_use]
    pub fn definitions(&self) -> &Definitions {
        &self.definitions
    }

    /// What its components say.
    #[must_use]
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Checks every job, as it stands and in every environment (or in one), and looks whether the secrets that they need
    /// are there now. Answers with warnings.
    ///
    /// # Errors
    /// All that is wrong. What an environment breaks is told when the rest is right.
    pub async fn check(&self, yard: &Yard, environment: Option<&str>) -> Result<Diagnostics, YardError> {
        let all: Vec<_> = self.definitions.environments().map(Name::as_str).collect();
        let environments = environment.map_or(all, |one| vec![one]);
        let planned = self.planning(yard, false, |planning| {
            let mut warnings = self.definitions.check(planning)?;
            let mut errors = Diagnostics::default();
            let mut secrets = BTreeMap::new();
            let mut remember = |plan: &Plan| {
                let needed = plan.secrets_needed().into_iter();
                secrets.extend(needed.map(|(name, from)| (name.clone(), from.clone())));
            };
            if environment.is_none() && self.definitions.has_secrets() {
                for job in self.jobs() {
                    let launch = Launch { job: job.as_str(), environment: None, settings: &[] };
                    // What is wrong with it was said.
                    Plan::build(&self.definitions, &launch, planning).iter().for_each(|(plan, _)| remember(plan));
                }
            }
            for environment in &environments {
                for job in self.jobs() {
                    let launch = Launch { job: job.as_str(), environment: Some(*environment), settings: &[] };
                    match Plan::build(&self.definitions, &launch, planning) {
                        Ok((plan, more)) => {
                            remember(&plan);
                            warnings.append(more);
                        }
                        Err(more) => errors.append(more),
                    }
                }
            }
            if errors.has_errors() { Err(errors) } else { Ok((warnings, secrets)) }
        });
        let (mut warnings, secrets) = planned.await?;
        warnings.append(self.notices.clone());
        for (name, from) in &secrets {
            if let Some(problem) = opyard_resources::secret_problem(from) {
                let text = format!("the secret `{name}` cannot be had now: {problem}");
                warnings.push(self.definitions.secret_warning(name.as_str(), &text));
            }
        }
        Ok(warnings)
    }

    /// Plans one job.
    ///
    /// # Errors
    /// All that is wrong with it, and with the settings.
    pub async fn plan(&self, yard: &Yard, launch: &Launch<'_>) -> Result<PlannedJob, YardError> {
        let (plan, mut warnings) =
            self.planning(yard, true, |planning| Plan::build(&self.definitions, launch, planning)).await?;
        warnings.append(self.notices.clone());
        Ok(PlannedJob { plan, warnings })
    }

    /// The steps of a job that can be configured, whatever else is wrong with the job.
    ///
    /// # Errors
    /// When there is no such job or environment.
    pub async fn configurable(&self, yard: &Yard, launch: &Launch<'_>) -> Result<Vec<ConfigurableStep>, YardError> {
        self.planning(yard, false, |planning| configurable(&self.definitions, launch, planning)).await
    }

    /// Plans with what the yard knows of what the definitions name: planning is pure, so what it asks for in vain is looked
    /// up, and it plans again.
    async fn planning<T>(
        &self,
        yard: &Yard,
        needs_latest: bool,
        plan: impl Fn(&Planning<'_>) -> Result<T, Diagnostics>,
    ) -> Result<T, YardError> {
        let defaults = Limits::default();
        let ceiling = Limits::ceiling();
        let mut known = Known::default();
        loop {
            let planned = plan(&Planning {
                catalog: &self.catalog,
                stored: &known,
                needs_latest,
                defaults: &defaults,
                ceiling: &ceiling,
            });
            if !known.learn(yard).await? {
                return Ok(planned?);
            }
        }
    }

    /// The names of its jobs.
    pub fn jobs(&self) -> impl Iterator<Item = &Name> {
        self.definitions.jobs().map(|(name, _)| name)
    }
}

/// What the components of a definitions file are pinned to, and what is pinned on the way.
struct Pins {
    /// None: no component comes from a registry, and nobody looks for a lock file.
    file: Option<LockFile>,
    new: Mutex<Vec<(Name, Locked)>>,
}

impl Pins {
    fn of(definitions: &Definitions, path: &Path) -> Result<Self, YardError> {
        let mut components = definitions.components();
        let needs_file = components.any(|(_, place)| matches!(place, ComponentPlace::Oci(_)));
        let file = if needs_file { Some(LockFile::beside(path)?) } else { None };
        Ok(Self { file, new: Mutex::default() })
    }

    /// Describes those of `needed` that are not described yet.
    async fn describe_some(
        &self,
        yard: &Yard,
        definitions: &Definitions,
        needed: &BTreeSet<Name>,
        (described, problems): (&mut BTreeMap<Name, ComponentDescription>, &mut Diagnostics),
    ) -> Result<(), YardError> {
        let open: Vec<_> = definitions
            .components()
            .filter(|(name, _)| needed.contains(*name) && !described.contains_key(*name))
            .collect();
        let problem =
            |name: &str, failure: &Failure| definitions.component_problem(name, failure.code, &failure.description);
        let describe = async |name: &Name, place: &ComponentPlace| self.describe(yard, name, place).await;
        let (more, wrong) = describe_all(open.into_iter(), problem, describe).await?;
        described.extend(more);
        problems.append(wrong);
        Ok(())
    }

    async fn describe(
        &self,
        yard: &Yard,
        name: &Name,
        place: &ComponentPlace,
    ) -> Result<ComponentDescription, YardError> {
        match (place, &self.file) {
            (ComponentPlace::Oci(component), Some(file)) => {
                let Obtained { bytes, locked, origin } = yard.pinned(name, component, file).await?;
                let mut described = yard.describe(bytes).await?;
                described.origin = Some(origin);
                self.new.lock().unwrap_or_else(PoisonError::into_inner).push((name.clone(), locked));
                Ok(described)
            }
            (ComponentPlace::Oci(_), None) => Err(YardError::new(Code::Invariant, "a component without a lock file")),
            (ComponentPlace::File(path), _) => yard.describe(components::read(path)?).await,
        }
    }

    /// Pins what was not pinned before.
    fn write(self) -> Result<(), YardError> {
        let Some(mut file) = self.file else { return Ok(()) };
        let mut changed = false;
        for (name, locked) in self.new.into_inner().unwrap_or_else(PoisonError::into_inner) {
            changed |= file.lock.pin(&name, locked);
        }
        if changed { file.write() } else { Ok(()) }
    }
}

/// Reads a file that a person wrote, `what` it is in one or two words, within the bound of such files. Also answers its
/// absolute path.
///
/// # Errors
/// `OPY-243` when it is not there, `OPY-313`, `OPY-234` when it is too large.
pub fn read_source(path: &Path, what: &str) -> Result<(Source, PathBuf), YardError> {
    let unreadable = |error: std::io::Error| {
        let hint = if error.kind() == std::io::ErrorKind::NotFound {
            "there is no such file; name one with -f"
        } else {
            "it cannot be read"
        };
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => Code::NoDefinitions,
            _ => Code::FileUnreadable,
        };
        YardError::new(code, format!("{}: {hint} ({error})", path.display()))
    };
    let path = std::path::absolute(path).map_err(unreadable)?;
    let length = std::fs::metadata(&path).map_err(unreadable)?.len();
    if length > MAX_SOURCE as u64 {
        let text = format!("{}: {length} bytes; a {what} has at most {MAX_SOURCE}", path.display());
        return Err(YardError::new(Code::TooLarge, text));
    }
    // What has no length may have no end.
    let mut bytes = Vec::new();
    let file = std::fs::File::open(&path).map_err(unreadable)?;
    file.take(MAX_SOURCE as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    let source = Source::from_bytes(&shown(&path), &bytes)?;
    Ok((source, path))
}

/// Asks components what they ship, by their names and places. What is wrong with one is said as `problem` does.
///
/// # Errors
/// What is no mistake of whoever wrote the names: a full disk, say.
pub async fn describe_all<'a, P: ?Sized + 'a>(
    components: impl Iterator<Item = (&'a Name, &'a P)>,
    problem: impl Fn(&str, &Failure) -> Diagnostic,
    describe: impl AsyncFn(&Name, &P) -> Result<ComponentDescription, YardError>,
) -> Result<(BTreeMap<Name, ComponentDescription>, Diagnostics), YardError> {
    let (mut described, mut problems) = (BTreeMap::new(), Diagnostics::default());
    for (name, place) in components {
        match describe(name, place).await {
            Ok(description) => {
                described.insert(name.clone(), description);
            }
            // A full disk, say, is no mistake of the file.
            Err(error) if matches!(error.blame(), Blame::Operator | Blame::Opyard) => return Err(error),
            Err(YardError::Failed(failure)) => problems.push(problem(name.as_str(), &failure)),
            Err(YardError::Definitions(more)) => problems.append(more),
        }
    }
    Ok((described, problems))
}

/// The path as messages show it: relative to where the user is, when it is below.
fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let relative = here.as_deref().and_then(|here| path.strip_prefix(here).ok());
    relative.unwrap_or(path).display().to_string()
}
