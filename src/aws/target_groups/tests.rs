use std::collections::BTreeSet;
use std::time::Duration;

use targetgate_core::elb::query::FailureKind;
use targetgate_core::names::AssumedRole;

use super::*;
use crate::aws::fake::{Asked, Aws, Reply, arn, by_arn, by_name, error_xml, group, groups_xml};

const PATIENCE: Duration = Duration::from_secs(10);

/// Target groups over the fake `aws`, with a budget; their worker runs as long as the guard lives.
struct Running {
    groups: TargetGroups,
    worker: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

fn running(aws: &Aws, rate: f64, burst: u32) -> Running {
    let metrics = crate::metrics::Metrics::default();
    let budget = Budget::new(rate, rate, burst, &metrics);
    let timeouts = super::super::client::Timeouts::default();
    let client = ElbClient::new(aws.config(), timeouts, budget.clone(), &metrics);
    let groups = TargetGroups::new(client, budget, 7);
    let worker = tokio::spawn(groups.clone().run());
    Running { groups, worker }
}

impl Running {
    async fn describe(&self, query: GroupQuery) -> Result<Arc<TargetGroup>, DescribeError> {
        self.groups
            .describe(&query, Instant::now() + PATIENCE)
            .await
    }

    /// Makes all queries concurrently.
    async fn describe_all(
        &self,
        queries: impl IntoIterator<Item = GroupQuery>,
    ) -> Vec<Result<Arc<TargetGroup>, DescribeError>> {
        futures::future::join_all(queries.into_iter().map(|query| self.describe(query))).await
    }
}

/// The numbers of the groups that were asked about.
fn numbers(asked: &Asked) -> Vec<usize> {
    let number = |text: &str| text.rsplit('-').next()?.parse().ok();
    let by_arn = asked.members("TargetGroupArns");
    let names = by_arn.iter().filter_map(|arn| arn.split('/').nth(1));
    names
        .chain(asked.members("Names"))
        .filter_map(number)
        .collect()
}

/// An AWS in which every group exists except those for which `is_bad` holds.
fn aws_without(is_bad: impl Fn(usize) -> bool + Send + Sync + 'static) -> Aws {
    Aws::new(move |asked| {
        let numbers = numbers(asked);
        assert!(numbers.len() <= 20, "AWS is asked about too many");
        if numbers.iter().any(|number| is_bad(*number)) {
            error_xml(
                400,
                "TargetGroupNotFound",
                "One or more target groups not found",
            )
        } else {
            Reply::After(Duration::from_millis(50), 200, groups_xml(numbers))
        }
    })
}

#[tokio::test(start_paused = true)]
async fn two_hundred_callers_of_one_moment_make_ten_calls() {
    let aws = aws_without(|_| false);
    let running = running(&aws, 10.0, 40);
    let answers = running.describe_all((0..200).map(by_arn)).await;
    for (number, answer) in answers.into_iter().enumerate() {
        assert_eq!(*answer.unwrap(), group(number));
    }
    assert_eq!(aws.asked().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn two_hundred_groups_are_answered_in_time_by_an_aws_that_allows_one_call_at_a_time() {
    let last = Mutex::new(None::<Instant>);
    let aws = Aws::new(move |asked| {
        let mut last = last.lock();
        if last.is_some_and(|last| asked.at - last < Duration::from_millis(100)) {
            return error_xml(400, "Throttling", "Rate exceeded");
        }
        *last = Some(asked.at);
        Reply::Say(200, groups_xml(numbers(asked)))
    });
    let running = running(&aws, 10.0, 40);
    let started = Instant::now();
    let answers = running.describe_all((0..200).map(by_arn)).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn callers_who_come_one_by_one_still_share_calls() {
    let aws = aws_without(|_| false);
    let running = running(&aws, 10.0, 1);
    let callers = (0..100_u32).map(|number| {
        let running = &running;
        async move {
            tokio::time::sleep(Duration::from_millis(2) * number).await;
            running.describe(by_arn(number as usize)).await
        }
    });
    let answers = futures::future::join_all(callers).await;
    assert!(answers.iter().all(Result::is_ok));
    assert!(aws.asked().len() <= 8, "{} calls", aws.asked().len());
}

#[tokio::test(start_paused = true)]
async fn callers_of_one_group_share_one_id() {
    let aws = aws_without(|_| false);
    let running = running(&aws, 10.0, 40);
    let answers = running.describe_all((0..50).map(|_| by_arn(7))).await;
    assert!(answers.iter().all(Result::is_ok));
    assert_eq!(aws.asked().iter().map(numbers).collect::<Vec<_>>(), [[7]]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_kept_for_a_minute_and_a_name_also_under_its_arn() {
    let aws = aws_without(|_| false);
    let running = running(&aws, 10.0, 40);
    for query in [by_name(1), by_name(1), by_arn(1)] {
        running.describe(query).await.unwrap();
    }
    assert_eq!(aws.asked().len(), 1);
    tokio::time::sleep(Duration::from_secs(60)).await;
    running.describe(by_arn(1)).await.unwrap();
    assert_eq!(aws.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_was_replaced_under_its_name_is_found_after_five_seconds() {
    let replaced = groups_xml([1]).replace(&arn(1), &arn(2));
    let aws = Aws::saying([Reply::Say(200, groups_xml([1])), Reply::Say(200, replaced)]);
    let running = running(&aws, 10.0, 40);
    let first = running.describe(by_name(1)).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let second = running.describe(by_name(1)).await.unwrap();
    assert_eq!(
        (first.arn.as_str(), second.arn.as_str()),
        (&*arn(1), &*arn(2))
    );
}

#[tokio::test(start_paused = true)]
async fn a_name_of_several_groups_stands_for_none() {
    let two = groups_xml([1, 2]).replace(">group-2<", ">group-1<");
    let aws = Aws::saying([Reply::Say(200, two)]);
    let running = running(&aws, 10.0, 40);
    let ambiguous = DescribeError::Ambiguous { groups: 2 };
    assert_eq!(running.describe(by_name(1)).await, Err(ambiguous));
}

#[tokio::test(start_paused = true)]
async fn names_arns_and_roles_are_asked_apart() {
    let aws = Aws::new(|asked| match asked.field("Action") {
        Some("AssumeRole") => error_xml(403, "AccessDenied", "no"),
        _ => Reply::Say(200, groups_xml(numbers(asked))),
    });
    let running = running(&aws, 10.0, 40);
    let role = AssumedRole {
        arn: "arn:aws:iam::210987654321:role/r".into(),
        external_id: None,
    };
    let foreign = GroupQuery {
        role: Some(role),
        ..by_arn(3)
    };
    let answers = running.describe_all([by_arn(1), by_name(2), foreign]).await;
    let codes: Vec<_> = answers
        .iter()
        .map(|answer| answer.as_ref().map_or_else(DescribeError::code, |_| "OK"))
        .collect();
    assert_eq!(codes, ["OK", "OK", "NoCredentials"]);
}

#[tokio::test(start_paused = true)]
async fn one_bad_id_fails_nobody_else() {
    let aws = aws_without(|number| number == 13);
    let running = running(&aws, 10.0, 40);
    let answers = running.describe_all((0..20).map(by_arn)).await;
    for (number, answer) in answers.into_iter().enumerate() {
        if number == 13 {
            assert_eq!(answer.unwrap_err(), DescribeError::NotFound);
        } else {
            assert_eq!(*answer.unwrap(), group(number));
        }
    }
    assert!(aws.asked().len() <= 11, "{} calls", aws.asked().len());
}

#[tokio::test(start_paused = true)]
async fn a_batch_of_bad_ids_only_is_taken_apart_to_the_last() {
    let aws = aws_without(|_| true);
    let running = running(&aws, 100.0, 100);
    let answers = running.describe_all((0..20).map(by_name)).await;
    assert!(
        answers
            .iter()
            .all(|answer| *answer == Err(DescribeError::NotFound))
    );
    assert_eq!(
        aws.asked().len(),
        39,
        "a call for each node of the tree of halves"
    );
}

#[tokio::test(start_paused = true)]
async fn a_malformed_id_is_split_off_and_told_what_aws_said() {
    let aws = Aws::new(|asked| match &numbers(asked)[..] {
        numbers if numbers.contains(&2) => error_xml(400, "ValidationError", "not a valid ARN"),
        numbers => Reply::Say(200, groups_xml(numbers.iter().copied())),
    });
    let running = running(&aws, 10.0, 40);
    let answers = running.describe_all((0..4).map(by_arn)).await;
    let refused = DescribeError::Failed {
        kind: FailureKind::Invalid,
        code: "ValidationError".to_owned(),
        message: "not a valid ARN".to_owned(),
    };
    assert_eq!(answers[2].as_ref(), Err(&refused));
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 3);
}

#[tokio::test(start_paused = true)]
async fn errors_are_not_kept() {
    let aws = Aws::saying([
        error_xml(400, "TargetGroupNotFound", "none"),
        Reply::Say(200, groups_xml([1])),
    ]);
    let running = running(&aws, 10.0, 40);
    assert_eq!(
        running.describe(by_arn(1)).await,
        Err(DescribeError::NotFound)
    );
    assert!(running.describe(by_arn(1)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_answer_without_the_group_says_that_there_is_none() {
    let aws = Aws::saying([Reply::Say(200, groups_xml([2]))]);
    let running = running(&aws, 10.0, 40);
    assert_eq!(
        running.describe(by_arn(1)).await,
        Err(DescribeError::NotFound)
    );
}

#[tokio::test(start_paused = true)]
async fn a_denial_is_told_at_once() {
    let aws = Aws::new(|_| error_xml(403, "AccessDenied", "not authorized"));
    let running = running(&aws, 10.0, 40);
    let answers = running.describe_all((0..20).map(by_arn)).await;
    for answer in answers {
        assert_eq!(answer.unwrap_err().code(), "AccessDenied");
    }
    assert_eq!(aws.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_caller_whose_deadline_comes_fails_only_itself() {
    let aws =
        Aws::new(|asked| Reply::After(Duration::from_secs(2), 200, groups_xml(numbers(asked))));
    let running = running(&aws, 10.0, 40);
    let hurried = running
        .groups
        .describe(&by_arn(1), Instant::now() + Duration::from_secs(1))
        .await;
    assert_eq!(hurried, Err(DescribeError::TimedOut));
    let patient = running.describe(by_arn(1)).await;
    assert_eq!(*patient.unwrap(), group(1));
    assert_eq!(
        aws.asked().len(),
        1,
        "the call that was out already answers"
    );
}

#[tokio::test(start_paused = true)]
async fn throttling_up_to_the_deadline_is_told_as_throttling() {
    let aws = Aws::new(|_| error_xml(400, "Throttling", "Rate exceeded"));
    let running = running(&aws, 10.0, 40);
    let started = Instant::now();
    let error = running.describe(by_arn(1)).await.unwrap_err();
    assert_eq!(error.code(), "Throttling");
    assert_eq!(started.elapsed(), PATIENCE);
    let calls = aws.asked().len();
    assert!((4..=20).contains(&calls), "{calls} calls in ten seconds");
}

#[tokio::test(start_paused = true)]
async fn a_hanging_attempt_is_tried_again_within_the_deadline() {
    let aws = Aws::saying([Reply::Hang, Reply::Break, Reply::Say(200, groups_xml([1]))]);
    let running = running(&aws, 10.0, 40);
    assert!(running.describe(by_arn(1)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_aws_that_is_away_is_given_up_after_three_attempts() {
    let aws = Aws::new(|_| Reply::Break);
    let running = running(&aws, 10.0, 40);
    assert_eq!(
        running.describe(by_arn(1)).await.unwrap_err().code(),
        "Unreachable"
    );
    assert_eq!(aws.asked().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_region_that_hangs_delays_no_other() {
    let aws = Aws::new(|asked| {
        if asked.host.contains("eu-west-1") {
            Reply::Hang
        } else {
            Reply::Say(200, groups_xml(numbers(asked)))
        }
    });
    let running = running(&aws, 10.0, 200);
    let hanging = running.describe_all((0..200).map(by_arn));
    let others = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let started = Instant::now();
        running.describe(by_name(1)).await.unwrap();
        started.elapsed()
    };
    let (_, took) = futures::future::join(hanging, others).await;
    assert!(took < Duration::from_millis(50), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn more_callers_than_are_taken_are_told_so_and_those_who_left_make_room() {
    let aws = Aws::new(|_| Reply::Hang);
    let running = running(&aws, 100.0, 100);
    let crowd = (0..super::super::batches::MAX_WAITING).map(by_arn);
    let (crowd, late) = futures::future::join(running.describe_all(crowd), async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        running.describe(by_arn(100_000)).await
    })
    .await;
    assert_eq!(late.unwrap_err().code(), "Overloaded");
    let codes: BTreeSet<_> = crowd
        .iter()
        .map(|a| a.as_ref().unwrap_err().code())
        .collect();
    assert_eq!(codes, BTreeSet::from(["Timeout"]));
    tokio::time::sleep(PATIENCE).await;
    let asked = aws.asked().len();
    let late = running.describe(by_arn(100_000)).await;
    assert_eq!(late.unwrap_err().code(), "Timeout");
    assert!(aws.asked().len() > asked);
}

#[tokio::test(start_paused = true)]
async fn an_account_that_is_throttled_holds_up_no_other() {
    const THEIRS: &str = "210987654321";
    let aws = Aws::new(|asked| {
        let arns = asked.members("TargetGroupArns");
        match arns.iter().any(|arn| arn.contains(THEIRS)) {
            true => error_xml(400, "Throttling", "Rate exceeded"),
            false => Reply::Say(200, groups_xml(numbers(asked))),
        }
    });
    let running = running(&aws, 10.0, 10);
    let theirs = (0..200).map(|number| {
        let theirs = arn(number).replace("123456789012", THEIRS);
        GroupQuery {
            selector: GroupSelector::Arn(theirs.parse().unwrap()),
            role: None,
        }
    });
    let ours = async {
        for number in 0..20 {
            tokio::time::sleep(Duration::from_millis(400)).await;
            let started = Instant::now();
            running.describe(by_arn(number)).await.unwrap();
            let took = started.elapsed();
            assert!(took < Duration::from_millis(50), "{took:?}");
        }
    };
    let (theirs, ()) = tokio::join!(running.describe_all(theirs), ours);
    assert!(theirs.iter().all(Result::is_err));
}
