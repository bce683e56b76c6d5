//! What this node's files say of its workspaces.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use sheaf_bundles::{compile::Integration, hook::Hook, plan::Plan};

use crate::{alerts::Told, directory::Compiled};

/// Every workspace by its key; of one with errors what its files said when they had none.
#[derive(Debug, Default)]
pub struct Said {
    workspaces: BTreeMap<String, Arc<Integration>>,
    /// Those with errors: of them what is in force stays.
    pub wrong: BTreeSet<String>,
}

impl Said {
    /// What is said after a change of the files. A workspace that has no folder any more is gone.
    pub fn then(&self, compiled: Compiled) -> Said {
        let mut said = Said::default();
        for own in compiled.workspaces {
            let is_sound = own.sound().is_some();
            let last = self.workspaces.get(&own.key).cloned();
            let taken = match own.integration {
                Some(now) if is_sound => Some(Arc::new(now)),
                now => last.or_else(|| now.map(alerts_of)),
            };
            if !is_sound {
                said.wrong.insert(own.key.clone());
            }
            said.workspaces.extend(taken.map(|integration| (own.key, integration)));
        }
        said
    }

    /// Every workspace, ordered by key.
    pub fn workspaces(&self) -> impl Iterator<Item = &Arc<Integration>> {
        self.workspaces.values()
    }

    /// Those whose files have no error.
    pub fn sound(&self) -> impl Iterator<Item = &Arc<Integration>> {
        self.workspaces().filter(|workspace| !self.wrong.contains(&workspace.key))
    }

    /// The plans that are to be in force, but for what stays.
    pub fn active(&self) -> Vec<Arc<Plan>> {
        self.sound().flat_map(|workspace| &workspace.plans).filter(|plan| plan.active).cloned().collect()
    }

    /// The hooks of all connections.
    pub fn hooks(&self) -> Vec<Arc<Hook>> {
        self.workspaces().flat_map(|workspace| &workspace.hooks).cloned().collect()
    }

    /// Whom to tell.
    pub fn told(&self) -> Told {
        Told::of(self.workspaces().map(|workspace| &**workspace))
    }
}

/// Files that were never sound here have one part that may be, and now is when it is needed: whom to tell.
fn alerts_of(wrong: Integration) -> Arc<Integration> {
    Arc::new(Integration { connections: Vec::new(), hooks: Vec::new(), plans: Vec::new(), ..wrong })
}
