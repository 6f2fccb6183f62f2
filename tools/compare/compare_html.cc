#include <algorithm>
#include <nlohmann/json.hpp>

#include "tools/compare/compare_text.h"

namespace tidemark {
namespace {

using Json = nlohmann::ordered_json;

// Styles, places and a script that fills them. DATA is put in.
constexpr std::string_view kPage = R"html(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Tidemark: what if</title>
<style>
:root{--fg:#1d2129;--bg:#fff;--dim:#667;--line:#d5d8de;--good:#137333;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--fg:#e6e8ec;--bg:#15171b;--dim:#9aa3b2;--line:#343942;--good:#7ddc98;--bad:#ff8a80}}
body{font:14px/1.45 system-ui,sans-serif;color:var(--fg);background:var(--bg);max-width:1240px;margin:1.5em auto;padding:0 1em}
h1{font-size:1.25em}h2{font-size:1.05em;margin-top:2em}.good{color:var(--good)}.bad{color:var(--bad)}.dim{color:var(--dim)}
table{border-collapse:collapse}th,td{padding:.2em .8em .2em 0;text-align:left;border-bottom:1px solid var(--line)}
.n{text-align:right;font-variant-numeric:tabular-nums}tr{cursor:default}svg{width:100%;height:auto}svg text{fill:var(--dim);font-size:11px}
i{display:inline-block;width:.8em;height:.8em;margin-right:.5em}
</style></head><body><h1>What if</h1><p id="title" class="dim"></p><table id="rows"></table>
<h2>Allocated (filled to the base) and reserved (dashed) over each run</h2><svg id="curves" viewBox="0 0 1200 360"></svg>
<h2>Why</h2><dl id="why"></dl><script type="application/json" id="data">DATA</script><script>
"use strict";
const data=JSON.parse(document.getElementById("data").textContent),$=id=>document.getElementById(id),mib=b=>(b/1048576).toFixed(1);
const colours=["#4269d0","#efb118","#ff725c","#6cc5b0","#3ca951","#a463f2","#9c6b4e","#97bbf5","#ff8ab7","#9498a0"],colour=i=>colours[i%colours.length];
const make=(tag,text,name)=>{const e=document.createElement(tag);if(text!==undefined)e.textContent=text;if(name)e.className=name;return e};
$("title").textContent=data.title;const base=data.rows[0];
const change=(a,b)=>Math.abs(a-b)<52429?"":" ("+(a>b?"+":"")+mib(a-b)+")";
const head=make("tr");["variant","allocated, MiB","reserved","process","","ms a step"].forEach((h,i)=>head.append(make("th",h,i&&i!==4?"n":"")));$("rows").append(head);
const svg=$("curves"),all=data.rows.filter(r=>!r.impossible),top_=Math.max(1,...all.flatMap(r=>r.reserved));
const add=(tag,set,text)=>{const e=document.createElementNS("http://www.w3.org/2000/svg",tag);for(const k in set)e.setAttribute(k,set[k]);if(text!==undefined)e.textContent=text;svg.append(e);return e};
const line=v=>v.map((b,i)=>(50+1145*i/Math.max(1,v.length-1)).toFixed(1)+","+(340-320*b/top_).toFixed(1)).join(" ");
for(let i=0;i<=4;i++)add("text",{x:2,y:344-80*i},Math.round(top_*i/4/1048576));
add("polygon",{points:"50,340 "+line(base.allocated)+" 1195,340",fill:"#8883"});
data.rows.forEach((r,i)=>{const tr=make("tr"),name=make("td");const sw=make("i");sw.style.background=colour(i);name.append(sw,r.name);tr.append(name);$("rows").append(tr);
 if(r.impossible){tr.append(make("td","not possible: "+r.impossible,"bad"));return}
 for(const k of ["allocated_bytes","reserved_bytes","process_bytes"])tr.append(make("td",mib(r.peak[k])+(i?change(r.peak[k],base.peak[k]):""),"n"));
 tr.append(make("td",r.fits?"fits":"too much",r.fits?"good":"bad"));tr.append(make("td",r.step_us===null?"":(r.step_us/1e3).toFixed(1),"n"));
 const lines=[add("polyline",{points:line(r.allocated),fill:"none",stroke:colour(i),"stroke-width":1.5}),add("polyline",{points:line(r.reserved),fill:"none",stroke:colour(i),"stroke-dasharray":"4 3"})];
 tr.onmouseenter=()=>lines.forEach(l=>l.setAttribute("stroke-width",4));tr.onmouseleave=()=>lines.forEach(l=>l.setAttribute("stroke-width",1.5));
 if(i){$("why").append(make("dt",r.name),make("dd",r.why));for(const n of r.notes)$("why").append(make("dd",n,"dim"))}});
</script></body></html>
)html";

constexpr size_t kColumns = 600;

// The highest of each stretch.
Json CurveOf(const std::vector<Bytes>& values) {
  Json curve = Json::array();
  const size_t columns = std::min(kColumns, values.size());
  for (size_t i = 0; i < columns; ++i) {
    Bytes highest;
    for (size_t k = i * values.size() / columns; k < (i + 1) * values.size() / columns; ++k) {
      highest = std::max(highest, values[k]);
    }
    curve.push_back(highest.count());
  }
  return curve;
}

Json RowOf(const Variant& variant) {
  Json row = {{"name", variant.name}};
  if (!variant.impossible.empty()) {
    row["impossible"] = variant.impossible;
    return row;
  }
  const Report& report = variant.report;
  row["fits"] = report.fits;
  row["peak"] = {{"allocated_bytes", report.allocated_peak.count()},
                 {"reserved_bytes", report.reserved_peak.count()},
                 {"process_bytes", report.process_peak.value.count()}};
  row["step_us"] = report.time ? Json(report.time->step_us) : Json(nullptr);
  row["why"] = variant.explanation;
  row["notes"] = Json::array();
  for (const PassRun& pass : variant.passes) {
    for (const std::string& note : pass.notes) row["notes"].push_back(std::string(pass.name) + ": " + note);
  }
  row["allocated"] = CurveOf(report.timeline.allocated);
  row["reserved"] = CurveOf(report.timeline.reserved);
  return row;
}

}  // namespace

std::string CompareHtml(const VariantTable& table) {
  Json data = {{"title", table.base.report.title + " on " + table.base.report.device_name}};
  data["rows"] = Json::array({RowOf(table.base)});
  for (const Variant& variant : table.variants) data["rows"].push_back(RowOf(variant));
  std::string text = data.dump(-1, ' ', false, Json::error_handler_t::replace);
  // Nothing in it may end the script element.
  for (size_t at = 0; (at = text.find('<', at)) != std::string::npos;) text.replace(at, 1, "\\u003c");
  std::string page(kPage);
  page.replace(page.find("DATA"), 4, text);
  return page;
}

}  // namespace tidemark
