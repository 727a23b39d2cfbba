//! Numbers: order by exact value, and arithmetic.

use std::cmp::Ordering;

use super::value::{Number, Val};

/// From here on a double is larger than any whole number of 64 bits.
const WHOLE_END: f64 = 18_446_744_073_709_551_616.0;

/// An operator between two numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Operator {
    pub(super) fn sign(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }
}

impl Number {
    /// The order by exact value; `None` beside what is not a number (`0.0 / 0.0`).
    pub(super) fn order(self, other: Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Whole(a), Self::Whole(b)) => Some(a.cmp(&b)),
            (Self::Double(a), Self::Double(b)) => a.partial_cmp(&b),
            (Self::Whole(a), Self::Double(b)) => whole_beside(a, b),
            (Self::Double(a), Self::Whole(b)) => whole_beside(b, a).map(Ordering::reverse),
        }
    }

    /// The nearest double.
    pub(super) fn to_f64(self) -> f64 {
        match self {
            Self::Whole(whole) => whole as f64,
            Self::Double(double) => double,
        }
    }
}

/// The order of a whole number of 64 bits and a double. The double is never rounded, and the whole
/// number never becomes a double.
fn whole_beside(whole: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    if double >= WHOLE_END {
        return Some(Ordering::Less);
    }
    if double <= -WHOLE_END {
        return Some(Ordering::Greater);
    }
    let floor = double.floor();
    #[expect(clippy::cast_possible_truncation, reason = "it is below 2^64")]
    let below = floor as i128;
    let has_fraction = double > floor;
    Some(whole.cmp(&below).then(if has_fraction {
        Ordering::Less
    } else {
        Ordering::Equal
    }))
}

/// What comes of two numbers. Two whole numbers give a whole number, as in CEL; a whole number and a
/// double give a double. `None` where one of them is no number.
pub(super) fn calculate(
    operator: Operator,
    a: &Val<'_>,
    b: &Val<'_>,
) -> Option<Result<Val<'static>, String>> {
    Some(match (a.number()?, b.number()?) {
        (Number::Whole(left), Number::Whole(right)) => {
            whole(operator, left, right).and_then(|result| {
                let fits = match (a, b) {
                    (Val::UInt(_), Val::UInt(_)) => u64::try_from(result).map(Val::UInt),
                    (Val::Int(_), Val::Int(_)) => i64::try_from(result).map(Val::Int),
                    _ => i64::try_from(result)
                        .map(Val::Int)
                        .or_else(|_| u64::try_from(result).map(Val::UInt)),
                };
                fits.map_err(|_| too_large())
            })
        }
        (left, right) => Ok(Val::Double(double(operator, left.to_f64(), right.to_f64()))),
    })
}

fn whole(operator: Operator, a: i128, b: i128) -> Result<i128, String> {
    let result = match operator {
        Operator::Add => a.checked_add(b),
        Operator::Subtract => a.checked_sub(b),
        Operator::Multiply => a.checked_mul(b),
        Operator::Divide | Operator::Remainder if b == 0 => {
            return Err("division by zero".to_owned());
        }
        Operator::Divide => a.checked_div(b),
        Operator::Remainder => a.checked_rem(b),
    };
    result.ok_or_else(too_large)
}

fn double(operator: Operator, a: f64, b: f64) -> f64 {
    match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
        Operator::Remainder => a % b,
    }
}

/// The number with the other sign; `None` where it is no number.
pub(super) fn negated(of: &Val<'_>) -> Option<Result<Val<'static>, String>> {
    Some(match of.number()? {
        Number::Double(double) => Ok(Val::Double(-double)),
        Number::Whole(whole) => i64::try_from(-whole).map(Val::Int).map_err(|_| too_large()),
    })
}

fn too_large() -> String {
    "the number is too large".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_and_doubles_are_ordered_by_exact_value() {
        let two_53 = 9_007_199_254_740_992_i128;
        for (whole, double, order) in [
            (1, 1.0, Ordering::Equal),
            (0, -0.0, Ordering::Equal),
            (1, 1.5, Ordering::Less),
            (2, 1.5, Ordering::Greater),
            (-1, -1.5, Ordering::Greater),
            (-2, -1.5, Ordering::Less),
            (two_53, 9_007_199_254_740_992.0, Ordering::Equal),
            (two_53 + 1, 9_007_199_254_740_992.0, Ordering::Greater),
            (i64::MAX.into(), 9_223_372_036_854_775_808.0, Ordering::Less),
            (u64::MAX.into(), WHOLE_END, Ordering::Less),
            (u64::MAX.into(), 1e300, Ordering::Less),
            (
                i64::MIN.into(),
                -9_223_372_036_854_775_808.0,
                Ordering::Equal,
            ),
            (i64::MIN.into(), -1e300, Ordering::Greater),
            (0, f64::INFINITY, Ordering::Less),
            (0, f64::NEG_INFINITY, Ordering::Greater),
        ] {
            let (a, b) = (Number::Whole(whole), Number::Double(double));
            assert_eq!(a.order(b), Some(order), "{whole} {double}");
            assert_eq!(b.order(a), Some(order.reverse()), "{double} {whole}");
        }
        assert_eq!(Number::Whole(0).order(Number::Double(f64::NAN)), None);
    }

    #[test]
    fn the_products_of_the_largest_numbers_are_found_too_large() {
        for (a, b) in [
            (Val::UInt(u64::MAX), Val::UInt(u64::MAX)),
            (Val::Int(i64::MIN), Val::UInt(u64::MAX)),
            (Val::Int(i64::MIN), Val::Int(-1)),
        ] {
            for operator in [Operator::Multiply, Operator::Divide] {
                if let Some(Ok(found)) = calculate(operator, &a, &b) {
                    assert_eq!(operator, Operator::Divide, "{found:?}");
                }
            }
        }
        let sum = calculate(Operator::Add, &Val::Int(-1), &Val::UInt(u64::MAX));
        assert!(matches!(sum, Some(Ok(Val::UInt(sum))) if sum == u64::MAX - 1));
    }
}
