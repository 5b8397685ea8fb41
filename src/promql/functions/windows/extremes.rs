//! Minimum and maximum over windows, and when they occurred, by a monotone queue.

use super::FloatWindows;
use super::edges::fill;
use crate::engine::Column;

/// `min_over_time` and `max_over_time` (first of equal values), or with `TIME` when the extreme occurred (last
/// of equal values). NaN gives way to any number; a window of nothing but NaN gives NaN, at its last sample.
pub(super) fn extreme<const MAX: bool, const TIME: bool>(
    w: &FloatWindows,
    queue: &mut Vec<u32>,
    out: &mut Column,
) {
    // queue[head..]: positions whose values get worse front to back; none is beaten by a later one.
    queue.clear();
    let mut head = 0;
    let mut next = 0usize;
    fill(w, 1, out, |_, lo, hi| {
        if next < lo {
            next = lo;
        }
        while next < hi {
            let v = w.v[next];
            if !v.is_nan() {
                while queue.len() > head {
                    let back = w.v[queue[queue.len() - 1] as usize];
                    let beaten = match (MAX, TIME) {
                        (true, false) => back < v,
                        (true, true) => back <= v,
                        (false, false) => back > v,
                        (false, true) => back >= v,
                    };
                    if !beaten {
                        break;
                    }
                    queue.pop();
                }
                queue.push(next as u32);
            }
            next += 1;
        }
        while head < queue.len() && (queue[head] as usize) < lo {
            head += 1;
        }
        if head == queue.len() {
            queue.clear();
            head = 0;
        }
        let i = queue.get(head).map_or(hi - 1, |i| *i as usize);
        if TIME { w.t[i] as f64 / 1000.0 } else { w.v[i] }
    });
}
