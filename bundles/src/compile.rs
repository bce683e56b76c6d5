//! The user's files into everything that runs: connections, hooks, plans. All diagnostics of all files are collected.

mod budget;
pub(crate) mod bundle;
mod condition;
mod connection;
mod constant;
pub mod header;
mod hook;
mod input;
mod lane;
mod lost;
pub mod manifest;
mod names;
mod parallel;
mod request;
mod retry;
mod secret;
pub mod shapes;
mod url;
mod verdicts;

use std::sync::Arc;

use chrono_tz::Tz;
use indexmap::IndexMap;

use crate::{
    alerts::{self, Alerts},
    artefact::{ENGINE_REVISION, Texts},
    bundle::named,
    catalog::Catalog,
    connection::Connection,
    diagnostic::{Diagnostic, Diagnostics, Sources, code::Code, excerpt::excerpt, suggest::suggest},
    hook::Hook,
    plan::Plan,
    words::Words,
    workspace,
    yaml::{self, FileId, Node, Span},
};
use connection::{Compiled, or_hint};

/// The workspace's own file.
pub const WORKSPACE_FILE: &str = "sheaf.yaml";
/// Whom to tell when something is wrong.
pub const ALERTS_FILE: &str = "alerts.yaml";
/// Folders whose YAML files are read.
pub const FOLDERS: [&str; 2] = ["connections/", "bundles/"];
/// What a file can be.
const KINDS: [&str; 4] = ["workspace", "connection", "bundle", "alerts"];

/// A compiled workspace.
#[derive(Debug)]
pub struct Integration {
    /// The workspace that names begin with (see [`workspace::qualified`]); empty for the directory's own.
    pub key: String,
    /// The workspace's name; empty for a directory that is none and only says whom to tell.
    pub workspace: String,
    /// The workspace's zone (IANA name).
    pub time_zone: String,
    /// Every connection without an error.
    pub connections: Vec<Arc<Connection>>,
    /// The hooks of those that receive events.
    pub hooks: Vec<Arc<Hook>>,
    /// Every bundle without an error; those that are switched off too (see [`Plan::active`]).
    pub plans: Vec<Arc<Plan>>,
    /// Whom to tell; the default when no file says.
    pub alerts: Arc<Alerts>,
}

impl Integration {
    /// The hook of a connection.
    pub fn hook(&self, connection: &str) -> Option<&Arc<Hook>> {
        self.hooks.iter().find(|hook| hook.connection.name == connection)
    }

    /// The connection of that name.
    pub fn connection(&self, name: &str) -> Option<&Arc<Connection>> {
        self.connections.iter().find(|connection| connection.name == name)
    }
}

/// One file of the workspace, read.
struct File {
    id: FileId,
    /// From the workspace's folder.
    path: String,
    node: Node,
}

/// What bundles are compiled against.
pub(crate) struct Workspace<'c> {
    /// See [`Integration::key`].
    key: &'c str,
    catalog: &'c Catalog,
    /// Local times are written in this zone when a template names none.
    zone: Tz,
    /// By their names in the files. None for a connection that has an error: it was reported, and what needs it is not reported
    /// again.
    connections: IndexMap<String, Option<Compiled>>,
    hooks: IndexMap<String, Arc<Hook>>,
    files: IndexMap<String, FileId>,
}

/// Compiles the files of a directory that is one workspace; see [`compile_workspace`].
pub fn compile<P: AsRef<str>, B: AsRef<[u8]>>(
    files: &[(P, B)],
    catalog: &Catalog,
) -> (Option<Integration>, Sources, Diagnostics) {
    let (mut sources, mut out) = Default::default();
    let integration = compile_workspace("", files, catalog, &mut sources, &mut out);
    (integration, sources, out)
}

/// Compiles a workspace: `sheaf.yaml`, `alerts.yaml` and every YAML file below `connections/` and `bundles/`; other files are
/// passed over. Paths are those from the directory that is served. What has an error is left out, and nothing of the workspace
/// may go live while [`Diagnostics::has_errors`]. None when there is no usable workspace file.
pub fn compile_workspace<P: AsRef<str>, B: AsRef<[u8]>>(
    key: &str,
    files: &[(P, B)],
    catalog: &Catalog,
    sources: &mut Sources,
    out: &mut Diagnostics,
) -> Option<Integration> {
    let is_operators = key.is_empty() && files.len() == 1 && files[0].0.as_ref() == ALERTS_FILE;
    let files = read(key, files, sources, out);
    if is_operators {
        return Some(operators(read_alerts(&files, key, out)));
    }
    let workspace_file = find_workspace(key, &files, sources, out);
    let settings = workspace_file.and_then(|file| workspace::read(&file.node, key, out));
    let zone = settings.as_ref().map_or(Tz::UTC, |settings| settings.time_zone);
    let mut workspace = Workspace {
        key,
        catalog,
        zone,
        connections: IndexMap::new(),
        hooks: IndexMap::new(),
        files: IndexMap::new(),
    };
    for file in of_kind(&files, "connection") {
        workspace.add_connection(file, zone, out);
    }
    let plans = compile_bundles(&files, &workspace, workspace_file, sources, out);
    let alerts = read_alerts(&files, key, out);
    settings.map(|settings| Integration {
        key: key.to_owned(),
        workspace: settings.name,
        time_zone: settings.time_zone.name().to_owned(),
        plans,
        connections: workspace.sound().map(|compiled| Arc::clone(&compiled.connection)).collect(),
        hooks: workspace.hooks.values().cloned().collect(),
        alerts: Arc::new(alerts),
    })
}

/// The directory itself, where it is no workspace and only says whom to tell of the whole server.
fn operators(alerts: Alerts) -> Integration {
    Integration {
        key: String::new(),
        workspace: String::new(),
        time_zone: Tz::UTC.name().to_owned(),
        connections: Vec::new(),
        hooks: Vec::new(),
        plans: Vec::new(),
        alerts: Arc::new(alerts),
    }
}

/// A place for texts that stand in no file.
pub(crate) fn no_span() -> Span {
    Span { file: FileId(u32::MAX), start: 0, end: 0 }
}

fn is_read(path: &str) -> bool {
    let yaml = path.ends_with(".yaml") || path.ends_with(".yml");
    path == WORKSPACE_FILE
        || path == ALERTS_FILE
        || (yaml && FOLDERS.iter().any(|folder| path.starts_with(folder)))
}

fn read<P: AsRef<str>, B: AsRef<[u8]>>(
    key: &str,
    files: &[(P, B)],
    sources: &mut Sources,
    out: &mut Diagnostics,
) -> Vec<File> {
    let folder = workspace::path(key, "");
    let mut wanted: Vec<_> = files.iter().map(|(path, bytes)| (path.as_ref(), bytes.as_ref())).collect();
    wanted.retain(|(path, _)| path.strip_prefix(&folder).is_some_and(is_read));
    wanted.sort_by_key(|(path, _)| *path);
    let added: Vec<FileId> =
        wanted.iter().filter_map(|(path, bytes)| yaml::add(path, bytes, sources, out).ok()).collect();
    let sources = &*sources;
    let parsed = parallel::map(&added, |id| {
        let mut own = Diagnostics::default();
        let node = yaml::parse(*id, sources.text(*id), &mut own);
        let file = node.map(|node| {
            check_kind(&node, &mut own);
            File { id: *id, path: sources.path(*id)[folder.len()..].to_owned(), node }
        });
        (file, own)
    });
    let mut read = Vec::new();
    for (file, own) in parsed {
        out.append(own);
        read.extend(file);
    }
    read
}

fn check_kind(node: &Node, out: &mut Diagnostics) {
    let kind = named(node, "kind");
    if kind.is_some_and(|(kind, _)| KINDS.contains(&kind)) {
        return;
    }
    let span = kind.map_or(Span { end: node.span.start, ..node.span }, |(_, span)| span);
    let message = match kind {
        Some((kind, _)) => Words::new(
            format!("there are no files of kind `{}`", excerpt(kind)),
            format!("файлов вида `{}` нет", excerpt(kind)),
        ),
        None => Words::new("the file does not say its `kind`", "в файле не указан `kind`"),
    };
    let hint = Words::new(
        "write `kind: bundle`, `connection`, `alerts` or `workspace`",
        "напишите `kind: bundle`, `connection`, `alerts` или `workspace`",
    );
    let near = kind.and_then(|(kind, _)| suggest(kind, KINDS));
    out.push(or_hint(Diagnostic::error(Code::UnknownKind, span, message).with_suggestion(near), hint));
}

fn of_kind<'f>(files: &'f [File], kind: &'f str) -> impl Iterator<Item = &'f File> {
    files.iter().filter(move |file| named(&file.node, "kind").is_some_and(|(own, _)| own == kind))
}

fn find_workspace<'f>(
    key: &str,
    files: &'f [File],
    sources: &mut Sources,
    out: &mut Diagnostics,
) -> Option<&'f File> {
    let mut found: Vec<&File> = of_kind(files, "workspace").collect();
    found.sort_by_key(|file| file.path != WORKSPACE_FILE);
    let mut found = found.into_iter();
    let first = found.next();
    if first.is_none() && !files.iter().any(|file| file.path == WORKSPACE_FILE) {
        let path = workspace::path(key, WORKSPACE_FILE);
        let name = if key.is_empty() { "my-shop".to_owned() } else { excerpt(key) };
        let span = Span { file: sources.add(path, ""), start: 0, end: 0 };
        let message = Words::new("there is no `sheaf.yaml`", "нет файла `sheaf.yaml`");
        let hint = Words::new(
            format!("write one: `{{kind: workspace, name: {name}, time_zone: Europe/Moscow}}`"),
            format!("создайте его: `{{kind: workspace, name: {name}, time_zone: Europe/Moscow}}`"),
        );
        out.push(Diagnostic::error(Code::BadWorkspace, span, message).with_hint(hint));
    }
    for other in found {
        let message = Words::new("there is a workspace file already", "файл рабочего пространства уже есть");
        let hint = Words::new("keep `sheaf.yaml` only", "оставьте только `sheaf.yaml`");
        out.push(Diagnostic::error(Code::BadWorkspace, other.node.span, message).with_hint(hint));
    }
    first
}

/// The first file says whom to tell; another one would have to be merged by a rule that nobody remembers.
fn read_alerts(files: &[File], key: &str, out: &mut Diagnostics) -> Alerts {
    let mut found: Vec<&File> = of_kind(files, "alerts").collect();
    found.sort_by_key(|file| file.path != ALERTS_FILE);
    for other in found.iter().skip(1) {
        let message = Words::new("there is a file of alerts already", "файл оповещений уже есть");
        let hint = Words::new("keep `alerts.yaml` only", "оставьте только `alerts.yaml`");
        out.push(Diagnostic::error(Code::DuplicateName, other.node.span, message).with_hint(hint));
    }
    found.first().and_then(|file| alerts::file::read(&file.node, key, out)).unwrap_or_default()
}

fn compile_bundles(
    files: &[File],
    workspace: &Workspace<'_>,
    workspace_file: Option<&File>,
    sources: &Sources,
    out: &mut Diagnostics,
) -> Vec<Arc<Plan>> {
    let bundles: Vec<&File> = of_kind(files, "bundle").collect();
    let mut names: IndexMap<&str, Span> = IndexMap::new();
    let duplicates: Vec<bool> = bundles
        .iter()
        .map(|file| {
            let name = named(&file.node, "name");
            name.is_some_and(|(name, span)| report_duplicate(&mut names, name, span, out))
        })
        .collect();
    let compiled = parallel::map(&bundles, |file| {
        let mut own = Diagnostics::default();
        let plan = bundle::compile(&file.node, workspace, &mut own).map(|parts| {
            let texts = workspace.texts(workspace_file, file, &parts, sources);
            Arc::new(Plan::new(parts, texts.seal()))
        });
        (plan, own)
    });
    let mut plans = Vec::new();
    for ((plan, own), duplicate) in compiled.into_iter().zip(duplicates) {
        out.append(own);
        plans.extend(plan.filter(|_| !duplicate));
    }
    plans
}

/// Remembers a name; true when it was there already, which is reported.
fn report_duplicate<'n>(
    names: &mut IndexMap<&'n str, Span>,
    name: &'n str,
    span: Span,
    out: &mut Diagnostics,
) -> bool {
    let Some(first) = names.insert(name, span) else { return false };
    names.insert(name, first);
    out.push(duplicate(name, span, first));
    true
}

fn duplicate(name: &str, span: Span, first: Span) -> Diagnostic {
    let message = Words::new(
        format!("the name `{}` is taken", excerpt(name)),
        format!("имя `{}` уже занято", excerpt(name)),
    );
    let hint = Words::new("give it another name", "дайте другое имя");
    Diagnostic::error(Code::DuplicateName, span, message)
        .with_hint(hint)
        .with_related(first, Words::new("the first one", "первое"))
}

impl Workspace<'_> {
    fn add_connection(&mut self, file: &File, zone: Tz, out: &mut Diagnostics) {
        let Some((name, span)) = named(&file.node, "name") else {
            connection::compile(&file.node, self.key, self.catalog, zone, out);
            return;
        };
        if let Some(first) = self.connections.get(name) {
            let first = first.as_ref().map_or(span, |first| first.name_span);
            out.push(duplicate(name, span, first));
            return;
        }
        let mut found = Diagnostics::default();
        let compiled = connection::compile(&file.node, self.key, self.catalog, zone, &mut found);
        let hook = compiled.as_ref().and_then(|compiled| {
            verdicts::check_settings(compiled, &mut found);
            hook::compile(compiled, &mut found)
        });
        let sound = !found.has_errors();
        out.append(found);
        if let Some(hook) = hook.filter(|_| sound) {
            self.hooks.insert(name.to_owned(), Arc::new(hook));
        }
        self.files.insert(name.to_owned(), file.id);
        self.connections.insert(name.to_owned(), compiled.filter(|_| sound));
    }

    /// Connections without an error.
    fn sound(&self) -> impl Iterator<Item = &Compiled> {
        self.connections.values().flatten()
    }

    /// The connection a bundle names; one that does not exist is reported.
    pub(crate) fn connection(&self, name: &str, span: Span, out: &mut Diagnostics) -> Option<&Compiled> {
        if let Some(found) = self.connections.get(name) {
            return found.as_ref();
        }
        let message = Words::new(
            format!("there is no connection `{}`", excerpt(name)),
            format!("подключения `{}` нет", excerpt(name)),
        );
        let known = || self.connections.keys().map(String::as_str);
        let all = known().collect::<Vec<_>>().join(", ");
        let hint = if all.is_empty() {
            Words::new("add one under `connections/`", "добавьте его в `connections/`")
        } else {
            Words::new(format!("there are: {all}"), format!("есть: {all}"))
        };
        let diagnostic =
            Diagnostic::error(Code::UnknownConnection, span, message).with_suggestion(suggest(name, known()));
        out.push(or_hint(diagnostic, hint));
        None
    }

    /// The hook of a connection.
    pub(crate) fn hook(&self, connection: &str) -> Option<&Arc<Hook>> {
        self.hooks.get(connection)
    }

    /// Every text a plan was compiled from.
    fn texts(
        &self,
        workspace: Option<&File>,
        bundle: &File,
        parts: &bundle::Parts,
        sources: &Sources,
    ) -> Texts {
        let mut names = vec![parts.hook.connection.own_name()];
        names.extend(parts.steps.iter().map(|step| step.connection.own_name()));
        names.sort_unstable();
        names.dedup();
        let ids = workspace.map(|file| file.id).into_iter().chain([bundle.id]);
        let ids = ids.chain(names.iter().filter_map(|name| self.files.get(*name).copied()));
        let mut manifests: Vec<_> = names
            .iter()
            .filter_map(|name| self.connections.get(*name)?.as_ref())
            .map(|compiled| (compiled.connector.path.clone(), compiled.connector.text.clone()))
            .collect();
        manifests.sort();
        manifests.dedup();
        Texts {
            engine: ENGINE_REVISION,
            bundle: parts.name.clone(),
            files: ids.map(|id| (sources.path(id).to_owned(), sources.text(id).to_owned())).collect(),
            manifests,
        }
    }
}
