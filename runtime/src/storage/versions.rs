//! Bundle versions: immutable artefacts, and which of them are active.

use std::collections::{BTreeSet, HashMap, HashSet};

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, QueryResult};
use sheaf_bundles::{
    artefact::{Artefact, SharedText},
    id::VersionId,
};

use super::{digests::Digests, sql::statement};
use crate::queue::{
    ids::Ids,
    types::{Activation, NewVersion, Version},
};

/// The hash of a text, as it is stored.
const HASH_BYTES: usize = 32;

/// Makes exactly these versions active, beside those of workspaces that keep theirs; their ids, and the epoch, which grew if
/// the set changed. On a shared database the caller holds the catalogue's lock.
pub async fn activate(
    tx: &DatabaseTransaction,
    ids: &mut Ids,
    activation: &Activation,
    now_ms: i64,
) -> Result<(Vec<VersionId>, u64), DbErr> {
    let epoch = epoch(tx).await?;
    let active = active_beside(tx, activation).await?;
    let mut texts = HashSet::new();
    let mut given = Vec::with_capacity(activation.versions.len());
    for version in &activation.versions {
        given.push(match active.get(&(version.bundle.clone(), version.artefact.hash.to_vec())) {
            Some(id) => VersionId(*id),
            None => put_in_force(tx, ids.next(now_ms), version, now_ms, &mut texts).await?,
        });
    }
    let before: BTreeSet<i64> = active.into_values().collect();
    let after: BTreeSet<i64> = given.iter().map(|id: &VersionId| id.0).collect();
    if before == after {
        return Ok((given, epoch.cast_unsigned()));
    }
    for id in before.difference(&after) {
        let end = statement(tx, "UPDATE version SET active = 0 WHERE id = ?", [(*id).into()]);
        tx.execute_raw(end).await?;
    }
    let epoch = epoch + 1;
    let note = "INSERT INTO meta VALUES ('epoch', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    tx.execute_raw(statement(tx, note, [epoch.into()])).await?;
    Ok((given, epoch.cast_unsigned()))
}

/// What is in force.
pub async fn digests_in_force(tx: &DatabaseTransaction) -> Result<Digests, DbErr> {
    let active = active(tx).await?;
    Ok(Digests::of(active.keys().map(|(bundle, hash)| (bundle.as_str(), hash.as_slice()))))
}

/// The active versions that the activation does not keep.
async fn active_beside(
    tx: &DatabaseTransaction,
    activation: &Activation,
) -> Result<HashMap<(String, Vec<u8>), i64>, DbErr> {
    let mut active = active(tx).await?;
    active.retain(|(bundle, _), _| !activation.keeps(bundle));
    Ok(active)
}

/// The epoch in force; 0 before the first activation.
pub async fn epoch(tx: &DatabaseTransaction) -> Result<i64, DbErr> {
    let row = tx.query_one_raw(statement(tx, "SELECT value FROM meta WHERE key = 'epoch'", [])).await?;
    row.map_or(Ok(0), |row| row.try_get_by_index(0))
}

/// Makes a version active that is not; stores it, and those of its texts that are not among `written`, when it is new.
async fn put_in_force(
    tx: &DatabaseTransaction,
    id: i64,
    version: &NewVersion,
    now_ms: i64,
    written: &mut HashSet<[u8; HASH_BYTES]>,
) -> Result<VersionId, DbErr> {
    const PUT: &str = "INSERT INTO version (id, bundle, connection, hash, artefact, shared, created_ms, through, active) \
                       VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1) \
                       ON CONFLICT (bundle, hash) DO UPDATE SET active = 1, through = excluded.through RETURNING id";
    const SHARED: &str = "INSERT INTO shared_text (hash, text) VALUES (?, ?) ON CONFLICT (hash) DO NOTHING";
    let artefact = &version.artefact;
    for shared in artefact.shared.iter().filter(|shared| written.insert(shared.hash)) {
        let values = [shared.hash.to_vec().into(), shared.text.to_string().into()];
        tx.execute_raw(statement(tx, SHARED, values)).await?;
    }
    let values = [
        id.into(),
        version.bundle.clone().into(),
        version.connection.clone().into(),
        artefact.hash.to_vec().into(),
        artefact.bytes.clone().into(),
        artefact.shared.iter().flat_map(|shared| shared.hash).collect::<Vec<u8>>().into(),
        now_ms.into(),
        version.through.0.into(),
    ];
    let row = tx.query_one_raw(statement(tx, PUT, values)).await?;
    let row = row.ok_or_else(|| DbErr::RecordNotFound("the version that was just put".to_owned()))?;
    Ok(VersionId(row.try_get_by_index(0)?))
}

/// The active versions: bundle and hash -> id.
async fn active(tx: &DatabaseTransaction) -> Result<HashMap<(String, Vec<u8>), i64>, DbErr> {
    let all = statement(tx, "SELECT bundle, hash, id FROM version WHERE active = 1", []);
    let read = |row: &QueryResult| {
        Ok(((row.try_get_by_index(0)?, row.try_get_by_index(1)?), row.try_get_by_index(2)?))
    };
    tx.query_all_raw(all).await?.iter().map(read).collect()
}

const SELECT: &str =
    "SELECT id, bundle, connection, artefact, shared, created_ms, CAST(active AS BIGINT) FROM version";

/// One version.
pub async fn version(connection: &DatabaseConnection, id: VersionId) -> Result<Option<Version>, DbErr> {
    let one = statement(connection, &format!("{SELECT} WHERE id = ?"), [id.0.into()]);
    match connection.query_one_raw(one).await? {
        Some(row) => Ok(Some(Texts::default().version(connection, &row).await?)),
        None => Ok(None),
    }
}

/// The epoch and the versions that are active in it; one statement, so one snapshot. Nothing and 0 before the first
/// activation.
pub async fn in_force(connection: &DatabaseConnection) -> Result<(u64, Vec<Version>), DbErr> {
    const IN_FORCE: &str = "SELECT v.id, v.bundle, v.connection, v.artefact, v.shared, v.created_ms, \
                            CAST(v.active AS BIGINT), m.value \
                            FROM meta m LEFT JOIN version v ON v.active = 1 WHERE m.key = 'epoch' ORDER BY v.id";
    let rows = connection.query_all_raw(statement(connection, IN_FORCE, [])).await?;
    let epoch: i64 = rows.first().map_or(Ok(0), |row| row.try_get_by_index(7))?;
    let mut texts = Texts::default();
    let mut versions = Vec::with_capacity(rows.len());
    for row in &rows {
        if row.try_get_by_index::<Option<i64>>(0)?.is_some() {
            versions.push(texts.version(connection, row).await?);
        }
    }
    Ok((epoch.cast_unsigned(), versions))
}

/// Shared texts that were read already.
#[derive(Default)]
struct Texts(HashMap<Vec<u8>, SharedText>);

impl Texts {
    async fn version(
        &mut self,
        connection: &DatabaseConnection,
        row: &QueryResult,
    ) -> Result<Version, DbErr> {
        let hashes: Vec<u8> = row.try_get_by_index(4)?;
        let mut shared = Vec::new();
        for hash in hashes.chunks_exact(HASH_BYTES) {
            shared.extend(self.text(connection, hash).await?);
        }
        Ok(Version {
            id: VersionId(row.try_get_by_index(0)?),
            bundle: row.try_get_by_index(1)?,
            connection: row.try_get_by_index(2)?,
            artefact: Artefact::stored(row.try_get_by_index(3)?, shared),
            created_ms: row.try_get_by_index(5)?,
            active: row.try_get_by_index::<i64>(6)? != 0,
        })
    }

    async fn text(
        &mut self,
        connection: &DatabaseConnection,
        hash: &[u8],
    ) -> Result<Option<SharedText>, DbErr> {
        if let Some(known) = self.0.get(hash) {
            return Ok(Some(known.clone()));
        }
        let one =
            statement(connection, "SELECT text FROM shared_text WHERE hash = ?", [hash.to_vec().into()]);
        let Some(row) = connection.query_one_raw(one).await? else { return Ok(None) };
        let text = SharedText::new(row.try_get_by_index::<String>(0)?);
        self.0.insert(hash.to_vec(), text.clone());
        Ok(Some(text))
    }
}
