//! All facts of one database into another, which may be of the other engine.
//!
//! Rows are copied in the order of their keys, some hundred in a transaction, so that a copy that
//! was cut short goes on behind the last row that came over. Until its end the target has a mark,
//! with which nobody else opens it. At the end every row is read on both sides and compared.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::tables::{self, TABLES, Table};
use crate::{Durability, Error, ErrorKind, Metadata, Row, Tx, Value, settings};

/// Rows that are read, and written, in one transaction.
const PAGE: usize = 500;

/// Rows that are written by one statement.
const AT_ONCE: usize = 50;

/// The settings that a database has for itself.
const OWN: [&str; 3] = [settings::COMPATIBLE, settings::COPY, settings::USED_ALONE];

/// How far a copy is, for whoever looks on.
#[derive(Debug, Default)]
pub struct CopyProgress {
    /// Rows in the source, twice: each is copied and compared. 0 until they are counted.
    pub expected: AtomicU64,
    /// Rows that were copied or compared.
    pub done: AtomicU64,
    /// What is going on.
    pub step: Mutex<String>,
}

impl CopyProgress {
    fn begin(&self, verb: &str, table: &Table) {
        let step = format!("{verb} {}", table.name);
        *self.step.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = step;
    }
}

impl Metadata {
    /// Copies everything from this database into `target`, which must be empty or hold a part of
    /// this copy. Nobody else may use either of them. Returns how many rows there are.
    ///
    /// Fails with [`ErrorKind::Damaged`] if the target holds something else, or is not the same in
    /// the end.
    pub async fn copy_into(&self, target: &Self, progress: &CopyProgress) -> Result<u64, Error> {
        let plans = self.plan(target).await?;
        self.release_uploads().await?;
        target.begin_copy(&self.store_id().await?).await?;
        let mut rows = 0;
        for plan in &plans {
            rows += self.count(plan).await?;
        }
        progress.expected.store(rows * 2, Ordering::Relaxed);
        for plan in &plans {
            progress.begin("copying", plan.table);
            self.copy_table(target, plan, progress).await?;
        }
        for plan in &plans {
            progress.begin("comparing", plan.table);
            self.compare_table(target, plan, progress).await?;
        }
        self.end_copy(target, &plans).await?;
        Ok(rows)
    }

    /// Nobody writes to uploads while this is used alone, and in the target no server has been.
    async fn release_uploads(&self) -> Result<(), Error> {
        self.write(Durability::Process, (), |tx, ()| {
            Box::pin(async move {
                tx.execute("UPDATE uploads SET holder = '' WHERE holder <> ''", &[]).await?;
                Ok(())
            })
        })
        .await
    }

    async fn plan(&self, target: &Self) -> Result<Vec<Plan>, Error> {
        let mut plans = Vec::new();
        for table in TABLES {
            let columns = self.columns(table).await?;
            let mut theirs = target.columns(table).await?;
            let mut ours = columns.clone();
            theirs.sort();
            ours.sort();
            if ours != theirs {
                let message = format!("the table {} has other columns in the target", table.name);
                return Err(Error::new(ErrorKind::Damaged, message));
            }
            plans.push(Plan::new(table, &columns));
        }
        Ok(plans)
    }

    async fn columns(&self, table: &Table) -> Result<Vec<String>, Error> {
        self.read(table.name, |tx, name| Box::pin(tables::columns(tx, name))).await
    }

    async fn count(&self, plan: &Plan) -> Result<u64, Error> {
        self.read(plan, |tx, plan| Box::pin(plan.table.count(tx))).await
    }

    async fn store_id(&self) -> Result<String, Error> {
        let id = self.read(&(), |tx, ()| Box::pin(settings::get(tx, settings::STORE_ID))).await?;
        id.ok_or_else(|| Error::new(ErrorKind::Damaged, "the database has no id"))
    }

    /// Marks this as what becomes a copy.
    async fn begin_copy(&self, source: &str) -> Result<(), Error> {
        self.write(Durability::Power, source.to_owned(), |tx, source| {
            Box::pin(async move {
                let refused = |message: &str| Err(Error::new(ErrorKind::Damaged, message));
                match settings::get(tx, settings::COPY).await? {
                    Some(begun) if begun == *source => return Ok(()),
                    Some(_) => return refused("the target holds a part of another database"),
                    None => {}
                }
                for table in TABLES {
                    if table.count(tx).await? > 0 {
                        return refused(
                            "the target is in use: it holds data already, and a copy needs an \
                             empty database",
                        );
                    }
                }
                settings::set(tx, settings::COPY, source).await
            })
        })
        .await
    }

    async fn copy_table(
        &self,
        target: &Self,
        plan: &Plan,
        progress: &CopyProgress,
    ) -> Result<(), Error> {
        let mut last = target.read(plan, |tx, plan| Box::pin(plan.last_key(tx))).await?;
        if last.is_some() {
            progress.done.fetch_add(target.count(plan).await?, Ordering::Relaxed);
        }
        loop {
            let page = self.page(plan, last.as_ref()).await?;
            let Some(newest) = page.last() else { return Ok(()) };
            last = Some(plan.key_of(newest));
            let rows = page.len() as u64;
            target
                .write(Durability::Process, (plan.clone(), page), |tx, (plan, page)| {
                    Box::pin(plan.insert(tx, page))
                })
                .await?;
            progress.done.fetch_add(rows, Ordering::Relaxed);
        }
    }

    async fn compare_table(
        &self,
        target: &Self,
        plan: &Plan,
        progress: &CopyProgress,
    ) -> Result<(), Error> {
        let mut last = None;
        loop {
            let page = self.page(plan, last.as_ref()).await?;
            if page != target.page(plan, last.as_ref()).await? {
                let message = format!(
                    "the table {} is not the same in both databases: perhaps the source was used \
                     since the copy was begun; empty the target and begin again",
                    plan.table.name
                );
                return Err(Error::new(ErrorKind::Damaged, message));
            }
            let Some(newest) = page.last() else { return Ok(()) };
            last = Some(plan.key_of(newest));
            progress.done.fetch_add(page.len() as u64, Ordering::Relaxed);
        }
    }

    async fn page(&self, plan: &Plan, after: Option<&Vec<Value>>) -> Result<Vec<Row>, Error> {
        self.read(&(plan, after), |tx, (plan, after)| Box::pin(plan.page(tx, *after))).await
    }

    /// Copies the settings and the counters, and takes the mark away.
    async fn end_copy(&self, target: &Self, plans: &[Plan]) -> Result<(), Error> {
        let mut counters = Vec::new();
        for plan in plans.iter().filter(|plan| plan.table.is_numbered()) {
            let name = plan.table.name;
            let last = self.read(name, |tx, name| Box::pin(tables::last_number(tx, name))).await?;
            counters.push((name, last));
        }
        let values = self.read(&(), |tx, ()| Box::pin(settings::all(tx))).await?;
        target
            .write(Durability::Power, (counters, values), |tx, (counters, values)| {
                Box::pin(async move {
                    for (table, last) in counters {
                        tables::number_after(tx, table, *last).await?;
                    }
                    for (name, _) in settings::all(tx).await? {
                        if !OWN.contains(&name.as_str()) {
                            settings::remove(tx, &name).await?;
                        }
                    }
                    for (name, value) in values {
                        if !OWN.contains(&name.as_str()) {
                            settings::set(tx, name, value).await?;
                        }
                    }
                    settings::remove(tx, settings::COPY).await
                })
            })
            .await
    }
}

impl Table {
    pub(crate) async fn count(&self, tx: &mut Tx) -> Result<u64, Error> {
        let sql = kept(format!("SELECT count(*) FROM {}", self.name));
        tx.query_one(sql, &[]).await?.map_or(Ok(0), |row| row.unsigned(0))
    }
}

/// The statements that a table is copied with.
#[derive(Clone)]
struct Plan {
    table: &'static Table,
    columns: usize,
    /// Where the columns of the key are among all.
    key: Vec<usize>,
    first_page: &'static str,
    next_page: &'static str,
    last_key: &'static str,
    insert_one: [&'static str; 2],
    insert_many: [&'static str; 2],
}

impl Plan {
    fn new(table: &'static Table, columns: &[String]) -> Self {
        let (name, all) = (table.name, columns.join(", "));
        let keys = table.key.join(", ");
        let descending = format!("{} DESC", table.key.join(" DESC, "));
        let count = table.key.len();
        let position = |key: &&str| columns.iter().position(|column| column == key);
        let insert = |rows: usize| {
            let row = |row: usize| format!("({})", parameters(row * columns.len(), columns.len()));
            let values = (0..rows).map(row).collect::<Vec<_>>().join(", ");
            let numbered = if table.is_numbered() { " OVERRIDING SYSTEM VALUE" } else { "" };
            [
                kept(format!("INSERT INTO {name} ({all}) VALUES {values}")),
                kept(format!("INSERT INTO {name} ({all}){numbered} VALUES {values}")),
            ]
        };
        Self {
            table,
            columns: columns.len(),
            key: table.key.iter().filter_map(position).collect(),
            first_page: kept(format!("SELECT {all} FROM {name} ORDER BY {keys} LIMIT $1")),
            next_page: kept(format!(
                "SELECT {all} FROM {name} WHERE ({keys}) > ({}) ORDER BY {keys} LIMIT ${}",
                parameters(0, count),
                count + 1
            )),
            last_key: kept(format!("SELECT {keys} FROM {name} ORDER BY {descending} LIMIT 1")),
            insert_one: insert(1),
            insert_many: insert(AT_ONCE),
        }
    }

    fn key_of(&self, row: &Row) -> Vec<Value> {
        self.key.iter().filter_map(|&column| row.values().get(column).cloned()).collect()
    }

    async fn last_key(&self, tx: &mut Tx) -> Result<Option<Vec<Value>>, Error> {
        let row = tx.query_one(self.last_key, &[]).await?;
        Ok(row.map(|row| row.values().to_vec()))
    }

    async fn page(&self, tx: &mut Tx, after: Option<&Vec<Value>>) -> Result<Vec<Row>, Error> {
        let limit = crate::sql_size(PAGE as u64);
        match after {
            None => tx.query(self.first_page, &[limit]).await,
            Some(key) => {
                let parameters: Vec<_> = key.iter().cloned().chain([limit]).collect();
                tx.query(self.next_page, &parameters).await
            }
        }
    }

    async fn insert(&self, tx: &mut Tx, rows: &[Row]) -> Result<(), Error> {
        let engine = usize::from(tx.is_postgres());
        for chunk in rows.chunks(AT_ONCE) {
            let many = if chunk.len() == AT_ONCE { self.insert_many } else { self.insert_one };
            let Some(sql) = many.get(engine) else { continue };
            let size = if chunk.len() == AT_ONCE { AT_ONCE } else { 1 };
            for rows in chunk.chunks(size) {
                let mut parameters = Vec::with_capacity(size * self.columns);
                parameters.extend(rows.iter().flat_map(|row| row.values().iter().cloned()));
                tx.execute(sql, &parameters).await?;
            }
        }
        Ok(())
    }
}

/// `$4, $5, $6` for three parameters after three others.
fn parameters(before: usize, count: usize) -> String {
    let numbers = (before + 1)..=(before + count);
    numbers.map(|number| format!("${number}")).collect::<Vec<_>>().join(", ")
}

/// Keeps a statement for good, once: there are few, and connections keep what they have prepared.
fn kept(sql: String) -> &'static str {
    static KEPT: Mutex<std::collections::BTreeSet<&'static str>> =
        Mutex::new(std::collections::BTreeSet::new());
    let mut kept = KEPT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(known) = kept.get(sql.as_str()) {
        return known;
    }
    let sql: &'static str = String::leak(sql);
    kept.insert(sql);
    sql
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_table_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let metadata = Metadata::open_sqlite(&folder.path().join("db")).await.unwrap();
        let mut known: Vec<_> = TABLES.iter().map(|table| table.name).collect();
        known.extend(["attempts", "leases", "migrations", "settings"]);
        known.sort_unstable();
        let there = metadata.read(&(), |tx, ()| Box::pin(tables::names(tx))).await.unwrap();
        assert_eq!(there, known, "a new table must be in `tables::TABLES`");
    }

    #[test]
    fn parameters_are_numbered_through() {
        assert_eq!(parameters(3, 3), "$4, $5, $6");
    }
}
