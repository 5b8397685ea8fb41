//! Loading: snapshot, chunk files, checkpoint, segments and the out-of-order log become a live head.
