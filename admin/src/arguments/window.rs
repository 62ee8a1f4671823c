//! Parts of lists.

/// The part of a list that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// How many rows come before it.
    pub skip: usize,
    /// How many rows it has at most.
    pub limit: usize,
}

impl Window {
    /// What an operation's `from` and `limit` ask for, where `usual` rows are shown unless it is said, and at most `most`.
    pub fn new(from: Option<usize>, limit: Option<usize>, usual: usize, most: usize) -> Window {
        Window { skip: from.unwrap_or(0), limit: limit.unwrap_or(usual).clamp(1, most) }
    }

    /// Where the next part begins after one that has so many rows, if there is one.
    pub fn next(self, rows: usize, total: usize) -> Option<usize> {
        let end = self.skip.saturating_add(rows);
        (end < total && rows > 0).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other_to_the_end() {
        let first = Window::new(None, Some(0), 50, 100);
        assert_eq!((first.skip, first.limit, first.next(1, 3)), (0, 1, Some(1)));
        let last = Window::new(Some(2), None, 50, 100);
        assert_eq!((last.limit, last.next(1, 3)), (50, None));
        // Whoever begins behind the end is not sent on.
        assert_eq!(Window::new(Some(9), Some(1000), 50, 100).next(0, 3), None);
        assert_eq!(Window::new(Some(usize::MAX), None, 1, 1).next(1, 3), None);
    }
}
