//! A binary heap in a vector. Which of equal items comes first decides which of two conflicting samples is kept when
//! blocks are merged, so items move exactly as in the heap that upstream merges with (Go's `container/heap`).

/// Adds an item.
#[inline]
pub(crate) fn push<T>(heap: &mut Vec<T>, item: T, less: impl Fn(&T, &T) -> bool) {
    heap.push(item);
    let mut at = heap.len() - 1;
    while at > 0 {
        let parent = (at - 1) / 2;
        if !less(&heap[at], &heap[parent]) {
            break;
        }
        heap.swap(parent, at);
        at = parent;
    }
}

/// Takes the least item.
#[inline]
pub(crate) fn pop<T>(heap: &mut Vec<T>, less: impl Fn(&T, &T) -> bool) -> Option<T> {
    let last = heap.len().checked_sub(1)?;
    heap.swap(0, last);
    let mut at = 0;
    loop {
        let mut child = 2 * at + 1;
        if child >= last {
            break;
        }
        if child + 1 < last && less(&heap[child + 1], &heap[child]) {
            child += 1;
        }
        if !less(&heap[child], &heap[at]) {
            break;
        }
        heap.swap(at, child);
        at = child;
    }
    heap.pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_items_come_in_the_order_of_upstreams_heap() {
        let less = |a: &(u32, char), b: &(u32, char)| a.0 < b.0;
        let order = |items: &[(u32, char)]| {
            let mut heap = Vec::new();
            items.iter().for_each(|i| push(&mut heap, *i, less));
            std::iter::from_fn(|| pop(&mut heap, less)).map(|i| i.1).collect::<String>()
        };
        // As Go's heap gives them.
        assert_eq!(order(&[(1, 'a'), (1, 'b'), (1, 'c')]), "acb");
        assert_eq!(order(&[(1, 'a'), (1, 'b'), (1, 'c'), (1, 'd')]), "adcb");
        assert_eq!(order(&[(2, 'a'), (1, 'b'), (2, 'c'), (1, 'd'), (0, 'e')]), "edbca");
        let seven: Vec<(u32, char)> = ('a'..='g').map(|c| (1, c)).collect();
        assert_eq!(order(&seven), "agfedcb");
        assert_eq!(order(&[]), "");
    }
}
