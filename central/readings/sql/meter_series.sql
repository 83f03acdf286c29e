-- The rows that count of one meter with an end in [:first_end_utc_s, :last_end_utc_s], oldest first.
select meter, serial, end_utc_s, schema_id, import_wh, export_wh, import_varh, voltage_dv,
  current_ca, raw_import_wh, raw_export_wh, raw_import_varh, raw_age_ms, voltage_min_dv,
  voltage_max_dv, power_w, power_min_w, power_max_w, samples, flags, ver, device, stream, seq
from (
  select *,
    row_number() over (
      partition by end_utc_s
      order by ver desc, case when flags & 1 > 0 then 2 when flags & 8 > 0 then 1 else 0 end, lsn
    ) as place
  from readings
  where tenant = :tenant and meter = :meter
    and end_utc_s >= :first_end_utc_s and end_utc_s <= :last_end_utc_s
) ranked
where place = 1
order by end_utc_s
