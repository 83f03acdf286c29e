-- All that was ever said of one meter's intervals with an end in [:first_end_utc_s, :last_end_utc_s]
-- where more than one thing was said. `place` 1 is the row that counts; `worth` is 0 for a true
-- value, 1 for an estimate, 2 for "no data". What repeats another row is no revision.
select end_utc_s, place, worth, ver, serial, import_wh, export_wh, import_varh, voltage_dv,
  current_ca, flags, device, stream, seq, lsn,
  first_value(ver) over (partition by end_utc_s order by place) as ver_that_counts,
  first_value(worth) over (partition by end_utc_s order by place) as worth_that_counts
from (
  select *,
    row_number() over (partition by end_utc_s order by ver desc, worth, lsn) as place,
    count(*) over (partition by end_utc_s) as said
  from (
    select *,
      case when flags & 1 > 0 then 2 when flags & 8 > 0 then 1 else 0 end as worth,
      row_number() over (
        partition by serial, end_utc_s, schema_id, import_wh, export_wh, import_varh,
          voltage_dv, current_ca, raw_import_wh, raw_export_wh, raw_import_varh, raw_age_ms,
          voltage_min_dv, voltage_max_dv, power_w, power_min_w, power_max_w, samples, flags, ver
        order by lsn
      ) as time_said
    from readings
    where tenant = :tenant and meter = :meter
      and end_utc_s >= :first_end_utc_s and end_utc_s <= :last_end_utc_s
  ) things
  where time_said = 1
) ranked
where said > 1
order by end_utc_s, place
