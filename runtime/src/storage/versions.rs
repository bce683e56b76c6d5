//! Bundle versions: immutable artefacts, and which of them are active.

use std::collections::BTreeSet;

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, QueryResult};
use sheaf_bundles::id::VersionId;

use super::sql::statement;
use crate::queue::{
    ids::Ids,
    types::{NewVersion, Version},
};

/// Makes exactly these versions active; their ids, and the epoch, which grew if the set changed. On a shared database the
/// caller holds the catalogue's lock.
pub async fn activate(
    tx: &DatabaseTransaction,
    ids: &mut Ids,
    versions: &[NewVersion],
    now_ms: i64,
) -> Result<(Vec<VersionId>, u64), DbErr> {
    let epoch = epoch(tx).await?;
    let mut given = Vec::with_capacity(versions.len());
    for version in versions {
        let known = find(tx, version).await?;
        given.push(match known {
            Some(id) => id,
            None => insert(tx, ids.next(now_ms), version, now_ms).await?,
        });
    }
    let before: BTreeSet<i64> = active(tx).await?;
    let after: BTreeSet<i64> = given.iter().map(|id: &VersionId| id.0).collect();
    if before == after {
        return Ok((given, epoch.cast_unsigned()));
    }
    tx.execute_unprepared("UPDATE version SET active = 0 WHERE active = 1").await?;
    for id in after {
        tx.execute_raw(statement(tx, "UPDATE version SET active = 1 WHERE id = ?", [id.into()])).await?;
    }
    let epoch = epoch + 1;
    let note = "INSERT INTO meta VALUES ('epoch', ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value";
    tx.execute_raw(statement(tx, note, [epoch.into()])).await?;
    Ok((given, epoch.cast_unsigned()))
}

/// The epoch in force; 0 before the first activation.
async fn epoch(tx: &DatabaseTransaction) -> Result<i64, DbErr> {
    let row = tx.query_one_raw(statement(tx, "SELECT value FROM meta WHERE key = 'epoch'", [])).await?;
    row.map_or(Ok(0), |row| row.try_get_by_index(0))
}

async fn find(tx: &DatabaseTransaction, version: &NewVersion) -> Result<Option<VersionId>, DbErr> {
    let values = [version.bundle.clone().into(), version.hash.to_vec().into()];
    let same = statement(tx, "SELECT id FROM version WHERE bundle = ? AND hash = ?", values);
    let row = tx.query_one_raw(same).await?;
    row.map(|row| row.try_get_by_index(0).map(VersionId)).transpose()
}

async fn insert(
    tx: &DatabaseTransaction,
    id: i64,
    version: &NewVersion,
    now_ms: i64,
) -> Result<VersionId, DbErr> {
    const INSERT: &str = "INSERT INTO version (id, bundle, connection, hash, artefact, created_ms, active) \
                          VALUES (?, ?, ?, ?, ?, ?, 0)";
    let values = [
        id.into(),
        version.bundle.clone().into(),
        version.connection.clone().into(),
        version.hash.to_vec().into(),
        version.artefact.clone().into(),
        now_ms.into(),
    ];
    tx.execute_raw(statement(tx, INSERT, values)).await?;
    Ok(VersionId(id))
}

async fn active(tx: &DatabaseTransaction) -> Result<BTreeSet<i64>, DbErr> {
    let rows = tx.query_all_raw(statement(tx, "SELECT id FROM version WHERE active = 1", [])).await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}

const SELECT: &str =
    "SELECT id, bundle, connection, hash, artefact, created_ms, CAST(active AS BIGINT) FROM version";

/// One version.
pub async fn version(connection: &DatabaseConnection, id: VersionId) -> Result<Option<Version>, DbErr> {
    let one = statement(connection, &format!("{SELECT} WHERE id = ?"), [id.0.into()]);
    let row = connection.query_one_raw(one).await?;
    row.as_ref().map(read).transpose()
}

/// Every version that is active or that a pending run still needs.
pub async fn needed(connection: &DatabaseConnection) -> Result<Vec<Version>, DbErr> {
    let sql = format!("{SELECT} WHERE active = 1 OR id IN (SELECT DISTINCT version FROM queue) ORDER BY id");
    connection.query_all_raw(statement(connection, &sql, [])).await?.iter().map(read).collect()
}

fn read(row: &QueryResult) -> Result<Version, DbErr> {
    let hash: Vec<u8> = row.try_get_by_index(3)?;
    Ok(Version {
        id: VersionId(row.try_get_by_index(0)?),
        bundle: row.try_get_by_index(1)?,
        connection: row.try_get_by_index(2)?,
        hash: hash.try_into().map_err(|_| DbErr::Custom("a version's hash is not 32 bytes".to_owned()))?,
        artefact: row.try_get_by_index(4)?,
        created_ms: row.try_get_by_index(5)?,
        active: row.try_get_by_index::<i64>(6)? != 0,
    })
}
