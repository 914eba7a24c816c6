//! What the storage engine can do at best with a group: one table, one statement, nothing else in the
//! transaction, no thread and no process to hand it to. The file is set up as the store's, its log is grown
//! before use, and copied into the file when it has come to the same size.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};

use super::raw::Random;

/// The store's own page size, and where it copies its log.
const PAGE: i64 = 4096;
const LOG_FULL: i64 = 8 << 20;

pub(crate) struct Engine {
    db: Connection,
    body: Vec<u8>,
    next: i64,
}

impl Engine {
    pub(crate) fn open(dir: &Path) -> Self {
        let file = dir.join("engine.db");
        for old in [&file, &dir.join("engine.db-wal")] {
            let _ = std::fs::remove_file(old);
        }
        let db = Connection::open(&file).unwrap();
        for (name, value) in [
            ("locking_mode", "EXCLUSIVE"),
            ("page_size", &PAGE.to_string()),
            ("auto_vacuum", "INCREMENTAL"),
            ("journal_mode", "WAL"),
            ("synchronous", "FULL"),
            ("wal_autocheckpoint", "0"),
            ("cache_size", "-1024"),
        ] {
            db.pragma_update(None, name, value).unwrap();
        }
        db.execute_batch("CREATE TABLE payload(id INTEGER PRIMARY KEY, body BLOB NOT NULL)")
            .unwrap();
        let mut log = OpenOptions::new().append(true).open(dir.join("engine.db-wal")).unwrap();
        log.write_all(&vec![0; 9 << 20]).unwrap();
        log.sync_data().unwrap();
        Self { db, body: Random::new(77).event(0).raw.repeat(2), next: 0 }
    }

    /// Seconds spent; `times` gets the milliseconds of each group.
    pub(crate) fn run(&mut self, group: usize, length: Duration, times: &mut Vec<f64>) -> f64 {
        self.body.truncate(1000);
        let started = Instant::now();
        while started.elapsed() < length {
            let one = Instant::now();
            self.db.prepare_cached("BEGIN").unwrap().execute([]).unwrap();
            {
                let mut put = self.db.prepare_cached("INSERT INTO payload VALUES(?1, ?2)").unwrap();
                for _ in 0..group {
                    self.next += 1;
                    put.execute(params![self.next, self.body]).unwrap();
                }
            }
            self.db.prepare_cached("COMMIT").unwrap().execute([]).unwrap();
            times.push(one.elapsed().as_secs_f64() * 1e3);
            let used = self.checkpoint("PRAGMA wal_checkpoint(NOOP)");
            if used * (PAGE + 24) >= LOG_FULL {
                self.checkpoint("PRAGMA wal_checkpoint(PASSIVE)");
            }
        }
        started.elapsed().as_secs_f64()
    }

    /// Frames in the log that are not in the file.
    fn checkpoint(&self, sql: &str) -> i64 {
        let mut read = self.db.prepare_cached(sql).unwrap();
        read.query_row([], |row| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?)).unwrap()
    }
}
