//! What a run of the harness found: for a person, and as JSON.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use anyhow::Context;
use serde::Serialize;

/// The whole report.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was tested, on what.
    pub versions: Versions,
    /// Where all randomness started.
    pub seed: u64,
    /// One for each scenario.
    pub findings: Vec<Finding>,
}

/// What was tested, on what.
#[derive(Debug, Clone, Serialize)]
pub struct Versions {
    /// As `sheaf --version` says.
    pub sheaf: String,
    /// The commit of the sources, if git knows.
    pub commit: Option<String>,
    /// The kernel's release.
    pub kernel: String,
    /// The SQLite inside.
    pub sqlite: String,
    /// The PostgreSQL that is started for it, if there is one on this machine.
    pub postgres: Option<String>,
}

/// What a scenario came to.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// Its name on the command line.
    pub scenario: String,
    /// The fault, and what was promised.
    pub about: String,
    /// What it came to.
    pub verdict: Verdict,
    /// What was found.
    pub outcome: Outcome,
    /// How long it took, seconds.
    pub took_s: f64,
}

/// What a scenario comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every promise held.
    Held,
    /// A broken build was found to break its promise, as it must be.
    Caught,
    /// Every promise held, and something was slower than it is to be.
    Slow,
    /// A promise was broken.
    Broken,
    /// A broken build went unnoticed: the harness is blind.
    Unnoticed,
    /// A cycle did not bite, or nothing was acknowledged: it proves nothing.
    Invalid,
    /// A tool is missing on this machine.
    Skipped,
}

/// What else counts as a failure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Strict {
    /// A missing tool: every one must be there.
    pub tools: bool,
    /// A speed that was not reached: the machine is known to be fast enough, and at rest.
    pub speeds: bool,
}

/// What a scenario found, before anyone judges whether that is good.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Outcome {
    /// Its cycles.
    pub cycles: Vec<Cycle>,
    /// Counts and times by name.
    pub figures: BTreeMap<String, f64>,
    /// Promises that did not hold, in words.
    pub broken: Vec<String>,
    /// Speeds that were not reached, in words.
    pub slow: Vec<String>,
    /// Why it proves nothing, beside cycles that did not bite.
    pub invalid: Vec<String>,
    /// What is missing to run it.
    pub missing_tool: Option<String>,
}

/// One fault.
#[derive(Debug, Clone, Serialize)]
pub struct Cycle {
    /// Which.
    pub number: usize,
    /// What was done.
    pub fault: String,
    /// Whether it can have mattered.
    pub bit: bool,
}

impl Report {
    /// Writes it as JSON, and beside it as text; after each scenario, so that a long run that is broken off leaves what it had.
    pub fn write(&self, file: &Path) -> anyhow::Result<()> {
        fs::write(file, serde_json::to_vec_pretty(self)?).with_context(|| file.display().to_string())?;
        fs::write(file.with_extension("txt"), self.to_string())?;
        Ok(())
    }

    /// Scenarios that did not come to what one wants.
    pub fn not_good(&self, strict: Strict) -> Vec<&str> {
        let bad = self.findings.iter().filter(|it| !it.verdict.is_good(strict));
        bad.map(|it| it.scenario.as_str()).collect()
    }
}

impl Outcome {
    /// Of a run that could not go on. Of the product that is a broken promise; a broken build is not caught by it, for it
    /// may just not have started.
    pub fn failed(error: &anyhow::Error, broken_build: bool) -> Outcome {
        let mut outcome = Outcome::default();
        outcome.cycle("see below", true);
        let lines = if broken_build { &mut outcome.invalid } else { &mut outcome.broken };
        lines.push(format!("{error:#}"));
        outcome
    }

    /// Notes a cycle.
    pub fn cycle(&mut self, fault: impl Into<String>, bit: bool) {
        self.cycles.push(Cycle { number: self.cycles.len() + 1, fault: fault.into(), bit });
    }

    /// Notes a count or a time.
    pub fn figure(&mut self, name: &str, value: f64) {
        self.figures.insert(name.to_owned(), value);
    }

    /// Adds to a count.
    pub fn count(&mut self, name: &str, by: usize) {
        *self.figures.entry(name.to_owned()).or_default() += by as f64;
    }

    /// Notes a broken promise unless this holds.
    pub fn expect(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.broken.push(otherwise());
        }
    }

    /// Notes a speed that was not reached unless this holds. How fast a machine is, is no promise.
    pub fn expect_speed(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.slow.push(otherwise());
        }
    }

    /// The verdict; `broken_build` when the promise was broken on purpose.
    pub fn verdict(&self, broken_build: bool) -> Verdict {
        let proves =
            !self.cycles.is_empty() && self.cycles.iter().all(|it| it.bit) && self.invalid.is_empty();
        match (&self.missing_tool, proves, self.broken.is_empty(), broken_build) {
            (Some(_), ..) => Verdict::Skipped,
            (None, false, ..) => Verdict::Invalid,
            (None, true, true, false) if !self.slow.is_empty() => Verdict::Slow,
            (None, true, true, false) => Verdict::Held,
            (None, true, false, false) => Verdict::Broken,
            (None, true, false, true) => Verdict::Caught,
            (None, true, true, true) => Verdict::Unnoticed,
        }
    }
}

impl Verdict {
    /// Whether this is what one wants.
    pub fn is_good(self, strict: Strict) -> bool {
        match self {
            Verdict::Held | Verdict::Caught => true,
            Verdict::Slow => !strict.speeds,
            Verdict::Skipped => !strict.tools,
            Verdict::Broken | Verdict::Unnoticed | Verdict::Invalid => false,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Verdict::Held => "held",
            Verdict::Slow => "SLOW",
            Verdict::Caught => "caught",
            Verdict::Broken => "BROKEN",
            Verdict::Unnoticed => "UNNOTICED",
            Verdict::Invalid => "INVALID",
            Verdict::Skipped => "skipped",
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Versions { sheaf, commit, kernel, sqlite, postgres } = &self.versions;
        let commit = commit.as_deref().unwrap_or("unknown commit");
        let postgres = postgres.as_deref().unwrap_or("no PostgreSQL");
        writeln!(f, "{sheaf} ({commit}), SQLite {sqlite}, {postgres}, Linux {kernel}, seed {}", self.seed)?;
        for finding in &self.findings {
            write!(f, "{finding}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { cycles, figures, broken, slow, invalid, missing_tool } = &self.outcome;
        let idle = cycles.iter().filter(|it| !it.bit).count();
        writeln!(f)?;
        writeln!(f, "{:9} {}: {}", self.verdict.words(), self.scenario, self.about)?;
        writeln!(f, "          {} cycles, {idle} without bite, {:.0} s", cycles.len(), self.took_s)?;
        for (name, value) in figures {
            let digits = if value.fract() == 0.0 { 0 } else { 1 };
            writeln!(f, "          {name}: {value:.digits$}")?;
        }
        for line in broken.iter().take(LINES_MAX) {
            writeln!(f, "        ! {line}")?;
        }
        if broken.len() > LINES_MAX {
            writeln!(f, "        ! and {} more, see the JSON", broken.len() - LINES_MAX)?;
        }
        for line in slow {
            writeln!(f, "        ~ {line}")?;
        }
        for line in invalid.iter().chain(missing_tool) {
            writeln!(f, "        ? {line}")?;
        }
        for cycle in cycles.iter().filter(|it| !it.bit).take(LINES_MAX) {
            writeln!(f, "        ? cycle {} did not bite: {}", cycle.number, cycle.fault)?;
        }
        Ok(())
    }
}

/// Broken promises that are printed for one scenario; the JSON has them all.
const LINES_MAX: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_without_bite_proves_nothing_however_good_it_looks() {
        let mut outcome = Outcome::default();
        assert_eq!(outcome.verdict(false), Verdict::Invalid);
        outcome.cycle("a kill", true);
        assert_eq!((outcome.verdict(false), outcome.verdict(true)), (Verdict::Held, Verdict::Unnoticed));
        outcome.expect(false, || "something".to_owned());
        assert_eq!((outcome.verdict(false), outcome.verdict(true)), (Verdict::Broken, Verdict::Caught));
        outcome.cycle("another", false);
        assert_eq!((outcome.verdict(false), outcome.verdict(true)), (Verdict::Invalid, Verdict::Invalid));
    }

    #[test]
    fn a_speed_that_was_not_reached_is_said_and_breaks_no_promise() {
        let mut outcome = Outcome::default();
        outcome.cycle("a pair", true);
        outcome.expect_speed(false, || "70 % of the empty one".to_owned());
        assert_eq!(outcome.verdict(false), Verdict::Slow);
        outcome.expect(false, || "one is missing".to_owned());
        assert_eq!(outcome.verdict(false), Verdict::Broken);
    }

    #[test]
    fn a_broken_build_that_cannot_run_is_not_caught() {
        let error = anyhow::anyhow!("there is no such program");
        assert_eq!(Outcome::failed(&error, true).verdict(true), Verdict::Invalid);
        assert_eq!(Outcome::failed(&error, false).verdict(false), Verdict::Broken);
    }

    #[test]
    fn a_missing_tool_is_a_failure_only_where_every_tool_must_be() {
        let strict = Strict { tools: true, ..Strict::default() };
        assert!(Verdict::Skipped.is_good(Strict::default()) && !Verdict::Skipped.is_good(strict));
        assert!(
            !Verdict::Invalid.is_good(Strict::default()) && !Verdict::Unnoticed.is_good(Strict::default())
        );
    }

    #[test]
    fn a_speed_that_was_not_reached_is_a_failure_only_where_it_was_asked_for() {
        let strict = Strict { speeds: true, ..Strict::default() };
        assert!(Verdict::Slow.is_good(Strict::default()) && !Verdict::Slow.is_good(strict));
        assert!(Verdict::Held.is_good(strict));
    }

    #[test]
    fn the_report_names_the_databases_it_was_made_with() {
        let versions = Versions {
            sheaf: "sheaf 1".to_owned(),
            commit: None,
            kernel: "6.1".to_owned(),
            sqlite: "3.51".to_owned(),
            postgres: Some("PostgreSQL 17.2".to_owned()),
        };
        let report = Report { versions, seed: 7, findings: Vec::new() };
        let expected = "sheaf 1 (unknown commit), SQLite 3.51, PostgreSQL 17.2, Linux 6.1, seed 7\n";
        assert_eq!(report.to_string(), expected);
    }
}
