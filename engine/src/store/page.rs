//! Pages of lists.

use crate::limits::PAGE_MAX;

/// The number of rows on a page. One more row is read, to learn whether another page follows.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageSize(u32);

impl PageSize {
    /// The requested size: at least one row, at most [`PAGE_MAX`].
    pub(super) fn of(limit: u32) -> Self {
        Self(limit.clamp(1, PAGE_MAX))
    }

    /// How many rows to read.
    pub(super) fn rows_to_read(self) -> u32 {
        self.0 + 1
    }

    /// Cuts the rows to the page. Returns them with the key of the last row if another page
    /// follows.
    pub(super) fn cut<T, K>(
        self,
        mut rows: Vec<T>,
        key: impl FnOnce(&T) -> K,
    ) -> (Vec<T>, Option<K>) {
        let size = self.0 as usize;
        let more = rows.len() > size;
        rows.truncate(size);
        let next_after = rows.last().filter(|_| more).map(key);
        (rows, next_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_there_only_where_another_page_follows() {
        let page = PageSize::of(2);
        assert_eq!(page.rows_to_read(), 3);
        assert_eq!(page.cut(vec![1, 2, 3], |n| *n), (vec![1, 2], Some(2)));
        assert_eq!(page.cut(vec![1, 2], |n| *n), (vec![1, 2], None));
        assert_eq!(PageSize::of(0).rows_to_read(), 2);
        assert_eq!(PageSize::of(u32::MAX).rows_to_read(), PAGE_MAX + 1);
    }
}
