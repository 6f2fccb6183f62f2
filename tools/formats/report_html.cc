#include "tools/formats/report_html.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "sim/breakdown.h"
#include "tools/formats/report_json.h"
#include "tools/tape_marks.h"

namespace tidemark {
namespace {

using Json = nlohmann::ordered_json;

// The page: styles, a script that draws what the data says, and places for it. DATA and TITLE are put in.
constexpr std::string_view kPage = R"html(<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>TITLE</title>
<style>
:root{--fg:#1d2129;--bg:#fff;--dim:#667;--line:#d5d8de;--good:#137333;--bad:#b3261e}
@media(prefers-color-scheme:dark){:root{--fg:#e6e8ec;--bg:#15171b;--dim:#9aa3b2;--line:#343942;--good:#7ddc98;--bad:#ff8a80}}
body{font:14px/1.45 system-ui,sans-serif;color:var(--fg);background:var(--bg);max-width:1240px;margin:1.5em auto;padding:0 1em}
h1{font-size:1.25em}h2{font-size:1.05em;margin-top:2em}.good{color:var(--good)}.bad{color:var(--bad)}.dim{color:var(--dim)}
table{border-collapse:collapse}th,td{padding:.2em .8em .2em 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}th{cursor:pointer}svg{width:100%;height:auto;display:block}
svg text{fill:var(--dim);font-size:11px}#key span{display:inline-block;margin-right:1em}#key i{display:inline-block;width:.8em;height:.8em;margin-right:.3em}
pre{white-space:pre-wrap}#at{min-height:1.5em}
</style></head><body>
<h1 id="verdict"></h1><p id="title" class="dim"></p><table id="ladder"></table>
<h2>Memory over the run</h2><div id="key"></div><svg id="curve" viewBox="0 0 1200 360" role="img" aria-label="allocated bytes by category"></svg><div id="at" class="dim"></div>
<h2>Alive at the peak</h2><table id="categories"></table>
<h2>Largest tensors then</h2><table id="largest"></table>
<h2>Phases</h2><table id="phases"></table>
<details><summary><h2 style="display:inline">Every number</h2></summary><pre id="all"></pre></details>
<script type="application/json" id="data">DATA</script>
<script>
"use strict";
const data=JSON.parse(document.getElementById("data").textContent),r=data.report,c=data.curve;
const colours=["#4269d0","#efb118","#ff725c","#6cc5b0","#3ca951","#a463f2","#9c6b4e","#97bbf5","#ff8ab7","#9498a0","#c9ccd3"];
const mib=b=>(b/1048576).toFixed(1),$=id=>document.getElementById(id);
const make=(tag,text,name)=>{const e=document.createElement(tag);if(text!==undefined)e.textContent=text;if(name)e.className=name;return e};
function table(id,heads,rows){const t=$(id),h=make("tr");heads.forEach((name,i)=>{const th=make("th",name,typeof(rows[0]||[])[i]==="number"?"n":"");
 th.onclick=()=>{const up=th.dataset.up!=="1";th.dataset.up=up?"1":"0";rows.sort((a,b)=>(a[i]<b[i]?-1:a[i]>b[i]?1:0)*(up?1:-1));fill()};h.append(th)});
 function fill(){t.replaceChildren(h,...rows.map(row=>{const tr=make("tr");row.forEach(v=>tr.append(make("td",typeof v==="number"?v.toFixed(1):v,typeof v==="number"?"n":"")));return tr}))}
 [...h.children].forEach((th,i)=>{if(rows.length&&typeof rows[0][i]==="number")th.className="n"});fill()}
const where=a=>[a.phase,a.step>=0?"step "+a.step:"",a.micro_step>=0?"micro-step "+a.micro_step:"",a.op].filter(Boolean).join(", ");
const v=$("verdict");v.textContent=(r.fits?"Fits: ":"Does not fit: ")+mib(r.peak.process_bytes)+" MiB"+(data.memory?" of "+mib(data.memory)+" MiB":"");v.className=r.fits?"good":"bad";
$("title").textContent=data.title+" on "+data.device+(r.out_of_memory?" — "+r.out_of_memory.message:"");
table("ladder",["peak","MiB"],["requested","allocated","active","reserved","process"].map(k=>[k,+mib(r.peak[k+"_bytes"])]));
const top_=Math.max(...c.reserved,1),X=i=>50+1145*i/Math.max(1,c.reserved.length),Y=b=>330-310*b/top_,svg=$("curve");
const add=(tag,set,text)=>{const e=document.createElementNS("http://www.w3.org/2000/svg",tag);for(const k in set)e.setAttribute(k,set[k]);if(text)e.textContent=text;svg.append(e);return e};
c.phases.forEach((p,i)=>{const x=50+1145*p.begin/c.events,w=1145*(p.end-p.begin)/c.events;add("rect",{x,y:20,width:w,height:310,fill:i%2?"#8884":"#8881"}).append(Object.assign(document.createElementNS("http://www.w3.org/2000/svg","title"),{textContent:p.name}));
 if(w>55)add("text",{x:x+3,y:345},p.name.split(" ")[0])});
let below=c.reserved.map(()=>0);
c.categories.forEach((name,k)=>{const own=c.allocated[k];if(!own.some(b=>b>0))return;const above=below.map((b,i)=>b+own[i]);
 const path=above.map((b,i)=>X(i)+","+Y(b)+" "+X(i+1)+","+Y(b)).join(" ")+" "+below.map((b,i)=>[X(i+1)+","+Y(b),X(i)+","+Y(b)]).reverse().flat().join(" ");
 add("polygon",{points:path,fill:colours[k%colours.length],opacity:.85});const s=make("span");const sw=make("i");sw.style.background=colours[k%colours.length];s.append(sw,name.replace(/_/g," "));$("key").append(s);below=above});
add("polyline",{points:c.reserved.map((b,i)=>X(i)+","+Y(b)+" "+X(i+1)+","+Y(b)).join(" "),fill:"none",stroke:"currentColor"});
{const s=make("span");s.append("— reserved");$("key").append(s)}
for(let i=0;i<=4;i++)add("text",{x:2,y:Y(top_*i/4)+4},Math.round(top_*i/4/1048576));
const cursor=add("line",{y1:20,y2:330,stroke:"currentColor","stroke-dasharray":"3 3"});
function show(i){cursor.setAttribute("x1",X(i+.5));cursor.setAttribute("x2",X(i+.5));const e=c.at[i],p=c.phases.find(p=>e>=p.begin&&e<p.end);
 $("at").textContent=(p?p.name+": ":"")+c.categories.map((n,k)=>[n,c.allocated[k][i]]).filter(x=>x[1]>0).map(x=>x[0].replace(/_/g," ")+" "+mib(x[1])).join(", ")+"; reserved "+mib(c.reserved[i])+" MiB"}
show(c.peak);svg.onmousemove=e=>{const b=svg.getBoundingClientRect(),i=Math.floor(((e.clientX-b.left)/b.width*1200-50)/1145*c.reserved.length);if(i>=0&&i<c.reserved.length)show(i)};svg.onmouseleave=()=>show(c.peak);
const all=r.peak.allocated_bytes||1;
table("categories",["category","MiB","%"],r.breakdown_at_peak.filter(x=>x.bytes).map(x=>[x.category.replace(/_/g," "),+mib(x.bytes),100*x.bytes/all]));
table("largest",["tensor","type","MiB","why","by"],r.largest_at_peak.map(x=>[x.tensor,x.dtype?x.dtype+"["+x.shape.join(", ")+"]":"",+mib(x.bytes),x.why,x.op]));
table("phases",["phase","allocated, MiB","reserved, MiB"],c.phases.map(p=>[p.name,+mib(p.allocated),+mib(p.reserved)]));
$("all").textContent=JSON.stringify(r,null,1);
</script></body></html>
)html";

using Stack = std::array<Bytes, kCategories>;

size_t CategoryOf(const std::string& name) {
  for (int i = 0; i < kCategories; ++i) {
    if (Name(static_cast<Category>(i)) == name) return static_cast<size_t>(i);
  }
  return kCategories - 1;
}

Bytes SumOf(const Stack& stack) {
  Bytes sum;
  for (const Bytes bytes : stack) sum += bytes;
  return sum;
}

// What is allocated, by category, at the highest moment of each column.
struct Curve {
  std::vector<Stack> allocated;
  std::vector<Bytes> reserved;
  std::vector<uint64_t> at;  // events
  size_t peak = 0;           // column
};

Curve CurveOf(const HtmlInput& input, uint64_t events) {
  const std::vector<HtmlObserver::Change>& changes = input.observer.changes();
  const size_t columns = std::min<size_t>(kHtmlColumns, changes.size());
  Curve curve = {std::vector<Stack>(columns), std::vector<Bytes>(columns), std::vector<uint64_t>(columns)};
  std::vector<uint8_t> category;  // by allocation, and one
  std::vector<bool> set(columns);
  Stack now{};
  for (const HtmlObserver::Change& change : changes) {
    if (change.allocation.valid()) {
      const size_t index = change.allocation.index();
      if (index >= category.size()) category.resize(index + 1);
      if (category[index] == 0) {
        category[index] = static_cast<uint8_t>(1 + CategoryOf(input.describer.Describe(change.allocation).category));
      }
      now[size_t{category[index]} - 1] += change.block;
    }
    const auto column = std::min<size_t>(columns - 1, change.event * columns / std::max<uint64_t>(1, events));
    curve.reserved[column] = std::max(curve.reserved[column], change.reserved);
    if (set[column] && SumOf(now) <= SumOf(curve.allocated[column])) continue;
    set[column] = true;
    curve.allocated[column] = now;
    curve.at[column] = change.event;
  }
  for (size_t i = 0; i < columns; ++i) {
    if (SumOf(curve.allocated[i]) > SumOf(curve.allocated[curve.peak])) curve.peak = i;
  }
  return curve;
}

Json CurveJson(const HtmlInput& input) {
  const Report& report = input.report;
  const auto events = static_cast<uint64_t>(report.counts.events);
  const Curve curve = CurveOf(input, events);
  Json categories = Json::array();
  Json allocated = Json::array();
  for (int k = 0; k < kCategories; ++k) {
    categories.push_back(Name(static_cast<Category>(k)));
    Json column = Json::array();
    // What a snapshot found allocated counts from its end on only.
    for (const Stack& stack : curve.allocated)
      column.push_back(std::max<int64_t>(0, stack[static_cast<size_t>(k)].count()));
    allocated.push_back(std::move(column));
  }
  Json reserved = Json::array();
  for (const Bytes bytes : curve.reserved) reserved.push_back(bytes.count());
  Json phases = Json::array();
  for (size_t i = 0; i < report.phases.size(); ++i) {
    const PhasePeak& phase = report.phases[i];
    const uint64_t end = i + 1 < report.phases.size() ? report.phases[i + 1].event : events;
    phases.push_back({{"name", DescribeMoment(phase.at)},
                      {"begin", phase.event},
                      {"end", end},
                      {"allocated", phase.allocated.count()},
                      {"reserved", phase.reserved.count()}});
  }
  return {{"events", events},
          {"categories", std::move(categories)},
          {"allocated", std::move(allocated)},
          {"reserved", std::move(reserved)},
          {"at", curve.at},
          {"peak", curve.peak},
          {"phases", std::move(phases)}};
}

// JSON within a script element, and text within an element.
std::string Embedded(std::string text) {
  size_t at = 0;
  while ((at = text.find('<', at)) != std::string::npos) text.replace(at, 1, "\\u003c");
  return text;
}
std::string Escaped(const std::string& text) {
  std::string result;
  for (const char c : text) result += c == '<' ? "&lt;" : c == '&' ? "&amp;" : std::string(1, c);
  return result;
}

}  // namespace

void HtmlObserver::OnEvent(const Observation& observation) {
  Change change = {.event = observation.event, .reserved = observation.usage.reserved};
  const bool placed = observation.outcome == AllocateOutcome::kPlaced;
  if (placed && observation.kind == EventKind::kAlloc) {
    change.allocation = observation.allocation;
    change.block = observation.placement.block_bytes;
  } else if (placed && observation.kind == EventKind::kFree) {
    change.allocation = observation.allocation;
    change.block = Bytes() - observation.placement.block_bytes;
  }
  changes_.push_back(change);
}

std::string ReportHtml(const HtmlInput& input) {
  const Report& report = input.report;
  Json data = {{"title", report.title}, {"device", report.device_name}};
  data["memory"] = report.device_memory ? Json(report.device_memory->count()) : Json(nullptr);
  data["report"] = Json::parse(ReportJson(report));
  data["curve"] = CurveJson(input);
  std::string page(kPage);
  const auto put = [&](std::string_view word, const std::string& text) {
    page.replace(page.find(word), word.size(), text);
  };
  put("TITLE", "Tidemark: " + Escaped(report.title));
  put("DATA", Embedded(data.dump(-1, ' ', false, Json::error_handler_t::replace)));
  return page;
}

}  // namespace tidemark
