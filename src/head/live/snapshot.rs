//! Chunk snapshots: series with their open chunks, tombstones and exemplars, so that the next start need not read the
//! log.
