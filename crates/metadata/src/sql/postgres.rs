//! PostgreSQL: transactions at SERIALIZABLE, run again when they lose against others.
//!
//! The isolation level makes every transaction function correct as written: if two of them
//! together would do what neither alone could, one is told to run again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, NoTls, Statement};

use super::{Durability, Row, Tx, TxFuture, Value};
use crate::{Error, ErrorKind};

pub(super) const DIALECT: &[(&str, &str)] = &[
    ("{ID}", "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"),
    ("{TEXT}", "TEXT COLLATE \"C\""),
    ("{BYTES}", "BYTEA"),
];

/// Connections in use at once.
const MAX_CONNECTIONS: usize = 16;

pub(super) struct Database {
    config: tokio_postgres::Config,
    idle: Mutex<Vec<Tx>>,
    permits: Arc<Semaphore>,
}

impl Database {
    pub(super) async fn connect(config: &str) -> Result<Self, Error> {
        let config = config.parse::<tokio_postgres::Config>()?;
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let database = Self { config, idle: Mutex::default(), permits };
        let first = database.connection().await?;
        database.give_back(first);
        Ok(database)
    }

    /// A connection of one's own: an idle one, or a new one. If it is not given back it closes,
    /// and PostgreSQL rolls back what it was doing.
    pub(super) async fn connection(&self) -> Result<Tx, Error> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(|_| Error::new(ErrorKind::Other, "the pool is closed"))?;
        while let Some(mut tx) = self.take_idle() {
            if let super::Connection::Postgres(connection) = &mut tx.connection
                && !connection.client.is_closed()
            {
                connection.permit = Some(permit);
                return Ok(tx);
            }
        }
        let (client, driver) = self.config.connect(NoTls).await?;
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::warn!(%error, "connection to PostgreSQL lost");
            }
        });
        let connection = Connection { client, statements: HashMap::new(), permit: Some(permit) };
        Ok(Tx { connection: super::Connection::Postgres(connection) })
    }

    pub(super) fn give_back(&self, mut tx: Tx) {
        if let super::Connection::Postgres(connection) = &mut tx.connection {
            let permit = connection.permit.take();
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(tx);
            drop(permit);
        }
    }

    fn take_idle(&self) -> Option<Tx> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    pub(super) async fn write<I, T, E, F>(
        &self,
        durability: Durability,
        input: &I,
        function: &F,
    ) -> Result<T, E>
    where
        I: Send + Sync + 'static,
        E: From<Error>,
        F: for<'t> Fn(&'t mut Tx, &'t I) -> TxFuture<'t, T, E>,
    {
        let mut tx = self.connection().await?;
        tx.statement(match durability {
            Durability::Power => "BEGIN ISOLATION LEVEL SERIALIZABLE",
            Durability::Process => {
                "BEGIN ISOLATION LEVEL SERIALIZABLE; SET LOCAL synchronous_commit = off"
            }
        })
        .await?;
        match function(&mut tx, input).await {
            Ok(value) => {
                let committed = tx.statement("COMMIT").await;
                self.give_back(tx);
                committed?;
                Ok(value)
            }
            Err(error) => {
                if tx.statement("ROLLBACK").await.is_ok() {
                    self.give_back(tx);
                }
                Err(error)
            }
        }
    }
}

/// One connection to the server, with the statements that it has prepared.
pub(super) struct Connection {
    client: Client,
    statements: HashMap<&'static str, Statement>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    pub(super) async fn query(
        &mut self,
        sql: &'static str,
        parameters: &[Value],
    ) -> Result<Vec<Row>, Error> {
        let statement = self.prepare(sql).await?;
        let rows = self.client.query(&statement, &borrow(parameters)).await?;
        rows.iter().map(own).collect()
    }

    pub(super) async fn execute(
        &mut self,
        sql: &'static str,
        parameters: &[Value],
    ) -> Result<u64, Error> {
        let statement = self.prepare(sql).await?;
        Ok(self.client.execute(&statement, &borrow(parameters)).await?)
    }

    pub(super) async fn statement(&mut self, sql: &str) -> Result<(), Error> {
        Ok(self.client.batch_execute(sql).await?)
    }

    async fn prepare(&mut self, sql: &'static str) -> Result<Statement, Error> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }
}

fn borrow(parameters: &[Value]) -> Vec<&(dyn ToSql + Sync)> {
    parameters.iter().map(|value| value as &(dyn ToSql + Sync)).collect()
}

fn own(row: &tokio_postgres::Row) -> Result<Row, Error> {
    let column = |(index, column): (usize, &tokio_postgres::Column)| {
        Ok(match *column.type_() {
            Type::INT8 => row.try_get::<_, Option<i64>>(index)?.map_or(Value::Null, Value::Integer),
            Type::INT4 => row
                .try_get::<_, Option<i32>>(index)?
                .map_or(Value::Null, |integer| Value::Integer(integer.into())),
            Type::TEXT => row.try_get::<_, Option<String>>(index)?.map_or(Value::Null, Value::Text),
            Type::BYTEA => {
                row.try_get::<_, Option<Vec<u8>>>(index)?.map_or(Value::Null, Value::Bytes)
            }
            ref other => {
                return Err(Error::new(
                    ErrorKind::Other,
                    format!("column {index} has the unexpected type {other}"),
                ));
            }
        })
    };
    row.columns().iter().enumerate().map(column).collect::<Result<_, _>>().map(Row)
}

impl ToSql for Value {
    fn to_sql(
        &self,
        ty: &Type,
        out: &mut bytes::BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match self {
            Self::Null => Ok(IsNull::Yes),
            Self::Integer(integer) => integer.to_sql(ty, out),
            Self::Text(text) => text.to_sql(ty, out),
            Self::Bytes(bytes) => bytes.to_sql(ty, out),
        }
    }

    fn accepts(ty: &Type) -> bool {
        matches!(*ty, Type::INT8 | Type::TEXT | Type::BYTEA)
    }

    to_sql_checked!();
}
