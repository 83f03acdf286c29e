-- Every row that says anything new, with every column, sorted for the lake. A row that counts no
-- more stays beside the one that does; one that repeats another in all it says, goes.
select tenant, meter, serial, end_utc_s, schema_id, import_wh, export_wh, import_varh, voltage_dv,
  current_ca, raw_import_wh, raw_export_wh, raw_import_varh, raw_age_ms, voltage_min_dv,
  voltage_max_dv, power_w, power_min_w, power_max_w, samples, flags, ver, device, stream, seq, lsn
from (
  select *,
    row_number() over (
      partition by tenant, meter, serial, end_utc_s, schema_id, import_wh, export_wh, import_varh,
        voltage_dv, current_ca, raw_import_wh, raw_export_wh, raw_import_varh, raw_age_ms,
        voltage_min_dv, voltage_max_dv, power_w, power_min_w, power_max_w, samples, flags, ver
      order by lsn
    ) as time_said
  from readings
) said
where time_said = 1
order by meter, end_utc_s, lsn
