//! Samples of one series that came late: sorted by time, one per time, until they are full and become a chunk.
