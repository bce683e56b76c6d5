//! A connector's rules about answers, with the connection's settings in place.

use std::sync::Arc;

use super::{condition, connection::Compiled, names::Names};
use crate::{
    diagnostic::Diagnostics,
    filter::Filter,
    judge::{Presence, Rule},
    manifest::action::{ProbeSpec, VerdictRule, VerdictWhen},
    template::Template,
    yaml::Node,
};

/// The rules of every step that uses a connection; its manifest's own check and [`check_settings`] report what is wrong.
pub fn compile(compiled: &Compiled) -> Arc<[Rule]> {
    let names = answer_names(compiled);
    let rules = compiled.connector.manifest.verdicts.iter();
    rules.filter_map(|rule| compile_rule(rule, compiled, &names)).collect()
}

/// How the answer to an action's probe is read; the manifest's own check has reported what is wrong.
pub fn presence(compiled: &Compiled, probe: &ProbeSpec) -> Option<Presence> {
    let names = answer_names(compiled);
    let filter = |node| condition::compile(node, &names, &mut Diagnostics::default());
    Some(Presence { found: filter(&probe.found)?, absent: filter(&probe.absent)? })
}

/// The filters in a connection's settings, checked where they stand.
pub fn check_settings(compiled: &Compiled, out: &mut Diagnostics) {
    let names = answer_names(compiled);
    for rule in &compiled.connector.manifest.verdicts {
        if let VerdictWhen::Setting(name) = &rule.when
            && let Some(node) = compiled.settings.as_ref().and_then(|settings| settings.get(name))
        {
            condition::compile(node, &names, out);
        }
    }
}

/// What may stand in a template over an answer.
pub fn answer_names(compiled: &Compiled) -> Names<'_> {
    Names {
        settings: Some(&compiled.fields),
        values: Some(&compiled.connection.settings),
        response: true,
        ..Names::default()
    }
}

fn compile_rule(rule: &VerdictRule, compiled: &Compiled, names: &Names<'_>) -> Option<Rule> {
    let mut ignored = Diagnostics::default();
    let when: Vec<Filter> = match &rule.when {
        VerdictWhen::Filter(node) => vec![condition::compile(node, names, &mut ignored)?],
        VerdictWhen::Setting(name) => {
            let node = compiled.settings.as_ref().and_then(|settings| settings.get(name))?;
            vec![condition::compile(node, names, &mut ignored)?]
        }
        VerdictWhen::SettingGiven(name) if compiled.is_given(name) => Vec::new(),
        VerdictWhen::SettingGiven(_) => return None,
    };
    let mut template = |node: &Option<Node>| {
        let node = node.as_ref()?;
        let mut template = Template::parse(node, &mut ignored)?;
        template.check(names, node.span, false, &mut ignored)?;
        Some(template)
    };
    let (detail, until) = (template(&rule.detail), template(&rule.until));
    Some(Rule { when, class: rule.class, message: rule.message.clone(), detail, until })
}
