use super::{
    super::tests::{JOB, PARENT, at, ended, job},
    *,
};

/// What a query asks for.
fn asked(face: Face, raw: &str) -> Result<Listing, Vec<String>> {
    let mut query = Query::parse(Some(raw)).unwrap();
    let listing = listing(face, &mut query);
    match query.finish() {
        Ok(()) => Ok(listing),
        Err(fault) => Err(fault.violations.into_iter().map(|bad| bad.field).collect()),
    }
}

#[track_caller]
fn filter(face: Face, raw: &str) -> Filter {
    asked(face, raw)
        .unwrap_or_else(|bad| panic!("{bad:?}"))
        .filter
}

#[test]
fn a_list_without_parameters_has_twenty_jobs_the_last_submitted_first() {
    let listing = asked(Face::Wire, "").unwrap_or_else(|bad| panic!("{bad:?}"));
    assert_eq!(listing.filter, Filter::All);
    assert_eq!((listing.offset, listing.limit), (0, 20));
    assert!(listing.fits.is_none() && listing.token.is_none());
    assert!(matches!(
        listing.sorting,
        Sorting::Indexed(ListOrder::CreateTimeDesc)
    ));
}

#[test]
fn a_page_has_at_most_a_thousand_jobs() {
    for (asked_for, limit) in [
        ("1", 1),
        (" 7 ", 7),
        ("1000", 1000),
        ("1001", 1000),
        ("9999999999999999", 1000),
    ] {
        let listing = asked(Face::Wire, &format!("max_records={asked_for}"));
        assert_eq!(listing.map(|listing| listing.limit).ok(), Some(limit));
    }
    for bad in ["0", "-1", "x", "", "1.5"] {
        let listing = asked(Face::Wire, &format!("max_records={bad}"));
        assert_eq!(listing.err(), Some(vec!["max_records".to_owned()]), "{bad}");
    }
}

#[test]
fn a_state_is_asked_for_in_the_words_of_the_form() {
    let of = |face, raw: &str| {
        let filter = filter(face, raw);
        let mut found = Vec::new();
        for state in JobState::ALL {
            for status in Status::ALL {
                if filter.matches_outcome(state, status) == Some(true) {
                    found.push((state, status));
                }
            }
        }
        found
    };
    let every = |state| Status::ALL.map(|status| (state, status)).to_vec();
    assert_eq!(of(Face::Wire, "state=queued"), every(JobState::Queued));
    assert_eq!(of(Face::Wire, "state=QUEUED"), every(JobState::Queued));
    let ended = [JobState::Succeeded, JobState::Failed].map(every).concat();
    assert_eq!(of(Face::WireV2, "state=Completed"), ended);
    let aborts = [JobState::Cancelling, JobState::Cancelled].map(every);
    assert_eq!(of(Face::Wire, "state=abort*"), aborts.concat());
    assert_eq!(of(Face::Wire, "state=aborting|aborted"), aborts.concat());
    assert_eq!(
        of(Face::Documented, "state=warning"),
        [JobState::Queued, JobState::Running, JobState::Cancelling]
            .map(|state| (state, Status::Warning))
    );
    assert_eq!(
        of(Face::Documented, "state=PARTIAL_FAILURES"),
        [(JobState::Failed, Status::PartialFailures)]
    );
    // A form does not know the words of the other.
    assert!(asked(Face::Documented, "state=completed").is_err());
    assert!(asked(Face::Wire, "state=normal").is_err());
    let warned = of(Face::Wire, "status=WARNING");
    assert_eq!(warned, JobState::ALL.map(|state| (state, Status::Warning)));
    assert!(filter(Face::Wire, "state=running&status=normal|warning").is_about_outcome());
}

#[test]
fn texts_ids_and_times_are_compared() {
    let is = |raw: &str| filter(Face::Wire, raw);
    assert_eq!(
        is("name=Create*"),
        Filter::Text(Field::Summary, Pattern::Prefix("Create".into()))
    );
    assert_eq!(
        is("type=create_luns"),
        Filter::Text(Field::Kind, Pattern::Exact("create_luns".into()))
    );
    let parent = JobId(PARENT.parse().unwrap());
    let id = JobId(JOB.parse().unwrap());
    assert_eq!(
        is(&format!("parent_job_key={PARENT}")),
        Filter::Parent(Some(parent))
    );
    assert_eq!(is("parent_job_key=null"), Filter::Parent(None));
    assert_eq!(is(&format!("key={JOB}")), Filter::Id(Order::Equal, id));
    assert_eq!(
        is(&format!("key={JOB}|{PARENT}")),
        Filter::Or(vec![
            Filter::Id(Order::Equal, id),
            Filter::Id(Order::Equal, parent)
        ])
    );
    assert!(!is("key=12:34").matches(&ended()));
    let bounds = [
        ("", Order::Equal),
        ("%3E", Order::Greater),
        ("%3E%3D", Order::GreaterOrEqual),
        ("<", Order::Less),
        ("<= ", Order::LessOrEqual),
    ];
    for (prefix, order) in bounds {
        for text in ["2026-11-21T12:00:03.000000Z", "2026-11-21T14:00:03+02:00"] {
            let raw = format!("submit_time={prefix}{text}");
            assert_eq!(is(&raw), Filter::CreateTime(order, at(3_000_000)), "{raw}");
            let raw = format!("complete_time={prefix}{text}");
            assert_eq!(is(&raw), Filter::EndTime(order, at(3_000_000)), "{raw}");
        }
    }
    assert!(is("complete_time=null").matches(&job(Vec::new())));
    assert!(!is("complete_time=null").matches(&ended()));
}

#[test]
fn parts_of_ids_are_compared_with_each_job() {
    let fits = |raw: &str| {
        let listing = asked(Face::Wire, raw).unwrap_or_else(|bad| panic!("{bad:?}"));
        let fits = listing.fits.unwrap();
        [fits(&ended()), fits(&job(Vec::new()))]
    };
    assert_eq!(fits("key=019AA5A0*"), [true, true]);
    assert_eq!(fits("key=*-00000000000*|x"), [true, true]);
    assert_eq!(fits("key=*ff"), [false, false]);
    assert_eq!(fits("parent_job_key=*ff"), [true, false]);
    assert_eq!(fits("parent_job_key=*"), [true, false]);
    assert_eq!(fits("parent_job_key=null|*"), [true, true]);
    assert_eq!(fits("parent_job_key=!*ff&key=*1"), [false, true]);
}

#[test]
fn a_list_is_sorted_by_any_field() {
    let keys = |raw: &str| {
        let listing = asked(Face::Documented, raw).unwrap_or_else(|bad| panic!("{bad:?}"));
        match listing.sorting {
            Sorting::Keys(keys) => keys(&ended()),
            Sorting::Indexed(order) => panic!("{order:?}"),
        }
    };
    assert_eq!(
        keys("order_by=name%20desc,+state,complete_time+ASC"),
        [
            SortKey::new(SortValue::text("Create LUN a"), true),
            SortKey::new(SortValue::text("PARTIAL_FAILURES"), false),
            SortKey::new(SortValue::time(Some(at(3_000_000))), false),
        ]
    );
    for field in ["key", "type", "status", "parent_job_key"] {
        assert_eq!(keys(&format!("order_by={field}")).len(), 1);
    }
    for (raw, order) in [
        ("submit_time", ListOrder::CreateTime),
        ("submit_time+desc", ListOrder::CreateTimeDesc),
    ] {
        let listing = asked(Face::Wire, &format!("order_by={raw}"));
        let sorting = listing.map(|listing| listing.sorting);
        assert!(matches!(sorting, Ok(Sorting::Indexed(o)) if o == order));
    }
}

#[test]
fn every_bad_parameter_is_named() {
    let bad = asked(
        Face::Wire,
        "name=%3Ea&state=done&submit_time=yesterday&order_by=size&offset=-1&max_records=x&page=3&key=a&key=b",
    );
    let expected = [
        "key",
        "name",
        "state",
        "submit_time",
        "order_by",
        "offset",
        "max_records",
        "page",
    ];
    assert_eq!(bad.err().unwrap(), expected);
    let many = format!("name={}", "a|".repeat(60));
    assert_eq!(asked(Face::Wire, &many).err().unwrap(), ["name"]);
    assert!(asked(Face::Wire, "order_by=").is_err());
    assert!(asked(Face::Wire, "order_by=name+down").is_err());
}

#[test]
fn a_place_in_one_list_is_none_in_another() {
    let of = |face, raw| asked(face, raw).unwrap_or_else(|bad| panic!("{bad:?}")).of;
    let base = of(Face::Wire, "name=a&order_by=key");
    // Where a page begins and how long it is does not matter.
    assert_eq!(
        of(
            Face::Wire,
            "order_by=key&name=a&offset=20&max_records=5&page_token=x"
        ),
        base
    );
    for other in ["name=a", "name=b&order_by=key", "type=a&order_by=key"] {
        assert_ne!(of(Face::Wire, other), base);
    }
    assert_ne!(of(Face::Documented, "name=a&order_by=key"), base);
}
