-- Energy of every interval that ends in (:first_edge_utc_s, :last_edge_utc_s], per meter.
-- A key's rows rank: higher revision, true value before estimate before "no data", first come.
-- No difference is taken across a reset, a rollover or another meter: flags 128, 256, 512.
with ranked as (
  select meter, serial, end_utc_s, import_wh, export_wh, import_varh, voltage_dv, current_ca, flags,
    row_number() over (
      partition by meter, end_utc_s
      order by ver desc, case when flags & 1 > 0 then 2 when flags & 8 > 0 then 1 else 0 end, lsn
    ) as place
  from readings
  where tenant = :tenant and end_utc_s >= :first_edge_utc_s and end_utc_s <= :last_edge_utc_s
),
kept as (
  select * from ranked where place = 1
)
select b.meter, b.end_utc_s,
  case when b.import_wh >= a.import_wh then b.import_wh - a.import_wh end as import_wh,
  case when b.export_wh >= a.export_wh then b.export_wh - a.export_wh end as export_wh,
  case when b.import_varh >= a.import_varh then b.import_varh - a.import_varh end as import_varh,
  b.voltage_dv, b.current_ca, b.flags
from kept b
left join kept a
  on a.meter = b.meter and a.end_utc_s = b.end_utc_s - :interval_s
  and a.serial = b.serial and b.flags & 896 = 0
where b.end_utc_s > :first_edge_utc_s
