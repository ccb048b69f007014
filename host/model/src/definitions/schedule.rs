//! Schedules: five cron fields and a time zone, checked so that a schedule that is kept can always say when it is next due.

use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::{TimeZone, TimeZoneDatabase};

use super::Schedule;
use super::reading::{Keys, Reading};
use super::tree::Node;
use crate::diagnostic::Diagnostic;
use crate::error::Code;

const KEYS: Keys = Keys {
    what: "a schedule",
    known: &["job", "cron", "timezone"],
    later: &["description", "tags", "config", "partitions", "environment"],
};

impl Reading<'_> {
    pub(super) fn schedule(&mut self, node: &Node) -> Option<Schedule> {
        // To find out that a date never comes takes milliseconds: a file full of such is left after the first hundred.
        if self.found.is_full() {
            return None;
        }
        let fields = self.fields(node, &KEYS)?;
        let job = fields
            .require(self, "job", "name the job to run")
            .and_then(|node| Some((self.name_at(node, "`job`")?, node.place.clone())));
        let cron = fields
            .require(self, "cron", "five fields, as in `cron: \"0 2 * * *\"` for two o'clock every night")
            .and_then(|node| self.cron(node));
        let timezone = match fields.get("timezone") {
            Some(node) => self.timezone(node),
            None => Some("UTC".to_owned()),
        };
        let (job, job_place) = job?;
        Some(Schedule { job, cron: cron?, timezone: timezone?, job_place })
    }

    fn cron(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node, "`cron`")?;
        match check_cron(text) {
            Ok(()) => Some(text.to_owned()),
            Err(problem) => {
                self.push(
                    Diagnostic::error(Code::BadCron, format!("`{text}` is not a cron expression that can be used"))
                        .at(&node.place, problem)
                        .help("five fields: minute, hour, day of the month, month, day of the week, as in `0 2 * * MON-FRI`"),
                );
                None
            }
        }
    }

    fn timezone(&mut self, node: &Node) -> Option<String> {
        let text = self.text(node, "`timezone`")?;
        let zones = TimeZoneDatabase::bundled();
        if zones.get(text).is_ok() {
            return Some(text.to_owned());
        }
        let known: Vec<String> = zones.available().map(|name| name.to_string()).collect();
        let last = |name: &str| name.rsplit('/').next().unwrap_or(name).to_lowercase();
        let diagnostic =
            Diagnostic::error(Code::BadTimeZone, format!("there is no time zone `{text}`")).at(&node.place, "");
        // The city alone is the usual slip.
        let diagnostic = match known.iter().find(|name| last(name) == last(&text.replace(' ', "_"))) {
            Some(name) => diagnostic.help(format!("did you mean `{name}`?")),
            None if crate::diagnostic::nearest(text, &known.iter().map(String::as_str).collect::<Vec<_>>())
                .is_some() =>
            {
                diagnostic.nearest(text, known.iter().map(String::as_str))
            }
            None => diagnostic.help("a name of the IANA database, as in `Europe/Vienna`"),
        };
        self.push(diagnostic);
        None
    }
}

/// Checks fields and dates. Croner takes more than is documented here (nicknames, `L`, `W`, `#`); it is left at that, but
/// for seconds and years, whose sixth and seventh field would quietly change what the others mean.
fn check_cron(text: &str) -> Result<(), String> {
    let fields = text.split_whitespace().count();
    if !text.trim_start().starts_with('@') && fields != 5 {
        return Err(format!("it has {fields} fields, not five"));
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    let fragment = |error: CronError| {
        let text = error.to_string();
        text.trim_start_matches("Component error: ").trim_end_matches('.').to_lowercase()
    };
    let cron = parser.parse(text).map_err(fragment)?;
    // Leap days come at most eight years apart (1896 to 1904): what does not come in the croner's horizon never does.
    let start = jiff::civil::date(2024, 1, 1).to_zoned(TimeZone::UTC).map_err(|error| error.to_string())?;
    match cron.find_next_occurrence(&start, true) {
        Ok(_) => Ok(()),
        Err(CronError::TimeSearchLimitExceeded) => Err("no such date ever comes".to_owned()),
        Err(error) => Err(fragment(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_comes_is_refused() {
        for right in ["0 2 * * *", "*/15 * * * MON-FRI", "0 0 29 2 *", "@daily"] {
            assert_eq!(check_cron(right), Ok(()), "{right}");
        }
        for wrong in ["", "* * * *", "0 0 2 * * *", "61 * * * *", "0 0 31 2 *", "x y z a b", "@reboot"] {
            assert!(check_cron(wrong).is_err(), "{wrong}");
        }
    }
}
