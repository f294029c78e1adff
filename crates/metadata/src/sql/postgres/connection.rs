//! One connection to the server.

use std::collections::HashMap;
use std::pin::pin;
use std::task::{Context, Waker};

use futures_util::future::try_join_all;
use tokio::sync::OwnedSemaphorePermit;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow, Statement};

use super::super::{Query, Row, Value};
use crate::{Error, ErrorKind};

/// A transaction that only reads begins so.
const BEGIN_READING: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// A connection with the statements that it has prepared.
pub(in crate::sql) struct Connection {
    client: Client,
    statements: HashMap<&'static str, Statement>,
    pub(super) permit: Option<OwnedSemaphorePermit>,
    /// A transaction for reading is to begin, with its first statement.
    begins: bool,
    /// It is of no more use: it broke, or its server forgot or changed what was prepared.
    is_spent: bool,
}

impl Connection {
    pub(super) fn new(client: Client, permit: Option<OwnedSemaphorePermit>) -> Self {
        Self { client, statements: HashMap::new(), permit, begins: false, is_spent: false }
    }

    /// Whether what went wrong may go well on another connection.
    pub(super) fn is_spent(&self) -> bool {
        self.is_spent || self.client.is_closed()
    }

    /// Begins a transaction for reading. It costs no round trip: it goes with the first statement.
    pub(super) fn begin_reading(&mut self) {
        self.begins = true;
    }

    /// Ends it. Nobody waits for the answer.
    pub(super) fn end_reading(&mut self) {
        if !std::mem::take(&mut self.begins) {
            let commit = pin!(self.client.batch_execute("COMMIT"));
            let _ = commit.poll(&mut Context::from_waker(Waker::noop()));
        }
    }

    pub(in crate::sql) async fn query(
        &mut self,
        sql: &'static str,
        parameters: &[Value],
    ) -> Result<Vec<Row>, Error> {
        let ran = self.run_query(sql, parameters).await;
        let rows = ran.map_err(|error| self.failed(error))?;
        rows.iter().map(own).collect()
    }

    async fn run_query(
        &mut self,
        sql: &'static str,
        parameters: &[Value],
    ) -> Result<Vec<tokio_postgres::Row>, tokio_postgres::Error> {
        let prepared = self.statements.get(sql).cloned();
        let parameters = borrow(parameters);
        if let Some(statement) = &prepared
            && self.begins
        {
            self.begins = false;
            let (begun, rows) = tokio::join!(
                biased;
                self.client.batch_execute(BEGIN_READING),
                self.client.query(statement, &parameters),
            );
            begun?;
            return rows;
        }
        self.begin().await?;
        let statement = self.prepare(sql).await?;
        self.client.query(&statement, &parameters).await
    }

    /// Sends all of them before it waits for the first answer.
    pub(in crate::sql) async fn query_all(
        &mut self,
        queries: &[Query],
    ) -> Result<Vec<Vec<Row>>, Error> {
        let run = async {
            let mut prepared = Vec::with_capacity(queries.len());
            for (sql, values) in queries {
                let is_known = self.statements.contains_key(sql);
                if !is_known {
                    self.begin().await?;
                }
                prepared.push((self.prepare(sql).await?, borrow(values)));
            }
            let client = &self.client;
            let begins = std::mem::take(&mut self.begins);
            let begin =
                async { if begins { client.batch_execute(BEGIN_READING).await } else { Ok(()) } };
            let asked = prepared.iter().map(|(statement, values)| client.query(statement, values));
            let (begun, rows) = tokio::join!(biased; begin, try_join_all(asked));
            begun?;
            rows
        };
        let ran: Result<Vec<_>, _> = run.await;
        let answers = ran.map_err(|error| self.failed(error))?;
        answers.iter().map(|rows| rows.iter().map(own).collect()).collect()
    }

    pub(in crate::sql) async fn execute(
        &mut self,
        sql: &'static str,
        parameters: &[Value],
    ) -> Result<u64, Error> {
        let run = async {
            self.begin().await?;
            let statement = self.prepare(sql).await?;
            self.client.execute(&statement, &borrow(parameters)).await
        };
        let ran = run.await;
        ran.map_err(|error| self.failed(error))
    }

    pub(in crate::sql) async fn statement(&mut self, sql: &str) -> Result<(), Error> {
        let run = async {
            self.begin().await?;
            self.client.batch_execute(sql).await
        };
        let ran = run.await;
        ran.map_err(|error| self.failed(error))
    }

    /// Runs statements, the last of which has one row.
    pub(in crate::sql) async fn simple_row(&mut self, sql: &str) -> Result<SimpleQueryRow, Error> {
        let answers = self.client.simple_query(sql).await.map_err(|error| self.failed(error))?;
        let rows = answers.into_iter().filter_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        rows.last().ok_or_else(|| Error::new(ErrorKind::Other, "PostgreSQL answered without a row"))
    }

    async fn begin(&mut self) -> Result<(), tokio_postgres::Error> {
        if std::mem::take(&mut self.begins) {
            self.client.batch_execute(BEGIN_READING).await?;
        }
        Ok(())
    }

    async fn prepare(&mut self, sql: &'static str) -> Result<Statement, tokio_postgres::Error> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        self.statements.insert(sql, statement.clone());
        Ok(statement)
    }

    fn failed(&mut self, error: tokio_postgres::Error) -> Error {
        self.is_spent |= is_broken(&error) || is_out_of_date(&error);
        error.into()
    }
}

/// Whether there is no connection any more, or never was one, for a reason that may pass.
pub(super) fn is_broken(error: &tokio_postgres::Error) -> bool {
    let Some(code) = error.code() else {
        let source = std::error::Error::source(error);
        let io = source.and_then(|source| source.downcast_ref::<std::io::Error>());
        // A certificate that is not trusted is "invalid data".
        let passes = |error: &std::io::Error| error.kind() != std::io::ErrorKind::InvalidData;
        return error.is_closed() || io.is_some_and(passes) || is_timeout(error);
    };
    code.code().starts_with("08")
        || [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::TOO_MANY_CONNECTIONS,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
            // The server has become a standby.
            SqlState::READ_ONLY_SQL_TRANSACTION,
        ]
        .contains(code)
        || code.code() == "57P05"
}

fn is_timeout(error: &tokio_postgres::Error) -> bool {
    error.to_string().starts_with("timeout")
}

/// Whether a statement must be prepared again, as a migration has changed what it returns or a
/// pooler on the way has forgotten it; or whether the server is a standby, where nobody can write.
fn is_out_of_date(error: &tokio_postgres::Error) -> bool {
    let Some(error) = error.as_db_error() else { return false };
    let says = |words: &str| error.message().contains(words);
    *error.code() == SqlState::INVALID_SQL_STATEMENT_NAME
        || says("cached plan must not change")
        || says("hot standby")
        || says("during recovery")
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
