// Opens HTML reports in headless Chromium, without a network, on a phone's and on a desk's width, in light and in dark: no
// request leaves the file, nothing is written to the console, axe-core finds no serious issue, and nothing is wider than the
// window. Screenshots are left beside the reports.
//
// node check.mjs FOLDER CHROMIUM: the reports in FOLDER, which has the packages of package.json in node_modules.
import { readdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const [folder, executablePath] = [resolve(process.argv[2]), process.argv[3]];
const require = createRequire(join(folder, "package.json"));
const puppeteer = require("puppeteer-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const WIDTHS = [390, 1440];
const SCHEMES = ["light", "dark"];
const SERIOUS = new Set(["serious", "critical"]);

async function check(browser, file, width, scheme) {
  const found = [];
  const page = await browser.newPage();
  const own = pathToFileURL(file).href;
  page.on("console", (message) => found.push(`console: ${message.text()}`));
  page.on("pageerror", (error) => found.push(`error: ${error.message}`));
  page.on("request", (request) => {
    if (request.url() !== own && !request.url().startsWith("data:")) found.push(`request: ${request.url()}`);
  });
  await page.setOfflineMode(true);
  await page.setViewport({ width, height: 900 });
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: scheme }]);
  await page.goto(own, { waitUntil: "load" });
  // All that is folded away is looked at too.
  await page.evaluate(() => document.querySelectorAll("details").forEach((one) => (one.open = true)));
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  if (wide > width) found.push(`it is ${wide} px wide`);
  const before = found.length;
  await page.evaluate(axe);
  const { violations, passes } = await page.evaluate(() => globalThis.axe.run());
  found.length = before;
  if (passes.length === 0) found.push("axe-core has checked nothing");
  for (const one of violations.filter((one) => SERIOUS.has(one.impact)))
    found.push(`axe ${one.id} (${one.impact}): ${one.help}: ${one.nodes.map((node) => node.target.join(" ")).join(", ")}`);
  const picture = file.replace(/\.html$/, `-${width}-${scheme}.png`);
  await page.screenshot({ path: picture });
  await page.close();
  return { found, rules: passes.length };
}

const files = readdirSync(folder).filter((name) => name.endsWith(".html"));
if (files.length === 0) throw new Error(`no report in ${folder}`);
const browser = await puppeteer.launch({ executablePath, headless: true, args: ["--no-sandbox", "--disable-gpu"] });
let wrong = 0;
for (const name of files)
  for (const width of WIDTHS)
    for (const scheme of SCHEMES) {
      const { found, rules } = await check(browser, join(folder, name), width, scheme);
      const what = `report ${basename(name, ".html")} at ${width} px, ${scheme}`;
      console.log(`${what}: ${found.length === 0 ? `ok, ${rules} rules of axe-core` : "WRONG"}`);
      for (const one of found) console.log(`  ${one}`);
      wrong += found.length;
    }
await browser.close();
process.exit(wrong === 0 ? 0 : 1);
