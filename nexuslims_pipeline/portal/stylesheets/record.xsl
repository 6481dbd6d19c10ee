<?xml version="1.0" encoding="UTF-8"?>
<!-- A record of the Nexus Experiment schema as a fragment of HTML, in the portal and in CDCS alike.

     XSLT 1.0 with the dates and strings of EXSLT that every libxslt has (https://exslt.github.io). Everything reads
     well without scripts; record.js adds dialogs, gallery and filter to what is here. All texts of the record go
     through the serializer, which escapes them; none may ever become part of a script or style element. -->
<xsl:stylesheet version="1.0"
                xmlns:xsl="http://www.w3.org/1999/XSL/Transform"
                xmlns:nx="https://data.nist.gov/od/dm/nexus/experiment/v1.0"
                xmlns:date="http://exslt.org/dates-and-times"
                xmlns:str="http://exslt.org/strings"
                exclude-result-prefixes="nx date str">

  <xsl:output method="html" encoding="UTF-8" indent="no"/>

  <!-- Places (portal/page.py says what they are); nothing is linked where they are empty. -->
  <xsl:param name="datasets"/>
  <xsl:param name="raw"/>
  <xsl:param name="records"/>
  <xsl:param name="crates"/>
  <!-- What the page does not link to by itself. -->
  <xsl:param name="style"/>
  <xsl:param name="script"/>

  <xsl:key name="sample" match="nx:sample" use="@id"/>

  <xsl:variable name="record" select="/nx:Experiment"/>
  <!-- The session's key, by which its files are named; a CDCS that sets identifiers puts an address in its place. -->
  <xsl:variable name="key" select="$record/@pid[not(contains(., '/'))]"/>
  <xsl:variable name="activities" select="$record/nx:acquisitionActivity"/>
  <xsl:variable name="start" select="string($record/nx:summary/nx:reservationStart)"/>
  <xsl:variable name="end" select="string($record/nx:summary/nx:reservationEnd)"/>
  <xsl:variable name="day">
    <xsl:choose>
      <xsl:when test="$start != ''"><xsl:value-of select="substring($start, 1, 10)"/></xsl:when>
      <xsl:otherwise><xsl:value-of select="substring($activities/nx:startTime, 1, 10)"/></xsl:otherwise>
    </xsl:choose>
  </xsl:variable>
  <!-- The offset in which the record gives its times, and the seconds by which it is ahead of UTC. -->
  <xsl:variable name="zone" select="substring($start, 20)"/>
  <xsl:variable name="ahead" select="date:seconds(concat(substring($start, 1, 19), 'Z')) - date:seconds($start)"/>
  <xsl:variable name="refused" select="$record/nx:notes/nx:entry/nx:table/nx:rows/nx:row[nx:cell/@colid = 'reason']"/>
  <!-- Here and where all datasets are gone through: by child steps, without unions and keys. libxml2 takes quadratic
       time for "//" and for putting the nodes of a union into their order. -->
  <xsl:variable name="doubted" select="count($activities/nx:setup/nx:param/@warning[. = 'true' or . = '1']) + count($activities/nx:dataset/nx:meta/@warning[. = 'true' or . = '1'])"/>

  <!-- Seconds since 1970 between which the session's time line runs. -->
  <xsl:variable name="from">
    <xsl:for-each select="$record/nx:summary/nx:reservationStart | $activities/nx:startTime">
      <xsl:sort select="date:seconds(string(.))" data-type="number"/>
      <xsl:if test="position() = 1"><xsl:value-of select="date:seconds(string(.))"/></xsl:if>
    </xsl:for-each>
  </xsl:variable>
  <xsl:variable name="to">
    <xsl:for-each select="$record/nx:summary/nx:reservationEnd | $activities/nx:startTime">
      <xsl:sort select="date:seconds(string(.))" data-type="number" order="descending"/>
      <xsl:if test="position() = 1"><xsl:value-of select="date:seconds(string(.))"/></xsl:if>
    </xsl:for-each>
  </xsl:variable>
  <xsl:variable name="span" select="$to - $from"/>

  <xsl:template match="/">
    <article class="nx nx-record" data-key="{$record/@pid}">
      <xsl:if test="$style != ''">
        <style><xsl:value-of select="$style"/></style>
      </xsl:if>
      <div class="nx-sheet">
        <xsl:apply-templates select="$record" mode="header"/>
        <div class="nx-overview">
          <div class="nx-told">
            <xsl:apply-templates select="$record/nx:summary"/>
            <xsl:call-template name="samples"/>
            <xsl:call-template name="projects"/>
          </div>
          <xsl:call-template name="gallery"/>
        </div>
        <xsl:call-template name="timeline"/>
        <div class="nx-body">
          <xsl:call-template name="navigation"/>
          <div class="nx-activities">
            <xsl:if test="not($activities)">
              <p class="nx-nothing">This session has no data files.</p>
            </xsl:if>
            <xsl:apply-templates select="$activities"/>
            <xsl:apply-templates select="$record/nx:notes"/>
          </div>
        </div>
      </div>
      <xsl:if test="$script != ''">
        <script><xsl:value-of select="$script"/></script>
      </xsl:if>
    </article>
  </xsl:template>

  <!-- Header -->

  <xsl:template match="nx:Experiment" mode="header">
    <header class="nx-header">
      <h1 dir="auto">
        <xsl:if test="string-length(nx:title) &gt; 200"><xsl:attribute name="title"><xsl:value-of select="nx:title"/></xsl:attribute></xsl:if>
        <xsl:choose>
          <xsl:when test="normalize-space(nx:title) != ''"><xsl:value-of select="nx:title"/></xsl:when>
          <xsl:otherwise>Session without a title</xsl:otherwise>
        </xsl:choose>
      </h1>
      <p class="nx-byline">
        <xsl:if test="nx:summary/nx:instrument">
          <strong dir="auto"><xsl:value-of select="nx:summary/nx:instrument"/></strong>
        </xsl:if>
        <xsl:for-each select="nx:summary/nx:experimenter">
          <span dir="auto"><xsl:value-of select="."/></span>
        </xsl:for-each>
        <xsl:if test="$start != ''">
          <span>
            <time datetime="{$start}"><xsl:value-of select="concat($day, ' ', substring($start, 12, 5))"/></time>
            <xsl:if test="$end != ''">
              <xsl:text> – </xsl:text>
              <time datetime="{$end}">
                <xsl:if test="substring($end, 1, 10) != $day"><xsl:value-of select="concat(substring($end, 1, 10), ' ')"/></xsl:if>
                <xsl:value-of select="substring($end, 12, 5)"/>
              </time>
            </xsl:if>
            <xsl:call-template name="zone"/>
          </span>
        </xsl:if>
      </p>
      <xsl:if test="normalize-space(nx:summary/nx:motivation) != ''">
        <p class="nx-motivation" dir="auto"><xsl:for-each select="nx:summary/nx:motivation"><xsl:call-template name="prose"/></xsl:for-each></p>
      </xsl:if>
      <ul class="nx-counts" aria-label="Counts">
        <li><xsl:call-template name="counted"><xsl:with-param name="count" select="count($activities/nx:dataset)"/><xsl:with-param name="what" select="'dataset'"/></xsl:call-template></li>
        <xsl:call-template name="count-of-type"><xsl:with-param name="type" select="'Image'"/></xsl:call-template>
        <xsl:call-template name="count-of-type"><xsl:with-param name="type" select="'Spectrum'"/></xsl:call-template>
        <xsl:call-template name="count-of-type"><xsl:with-param name="type" select="'SpectrumImage'"/></xsl:call-template>
        <xsl:call-template name="count-of-type"><xsl:with-param name="type" select="'Diffraction'"/></xsl:call-template>
        <xsl:call-template name="count-of-type"><xsl:with-param name="type" select="'Notes'"/></xsl:call-template>
        <xsl:call-template name="count-of-type"><xsl:with-param name="type" select="'Misc'"/></xsl:call-template>
        <xsl:call-template name="count-of-type"><xsl:with-param name="type" select="'Unknown'"/></xsl:call-template>
        <li>
          <xsl:call-template name="counted">
            <xsl:with-param name="count" select="count($activities)"/>
            <xsl:with-param name="what" select="'activity'"/>
            <xsl:with-param name="several" select="'activities'"/>
          </xsl:call-template>
        </li>
        <xsl:if test="$refused">
          <li class="nx-bad">
            <a href="#nx-refused">
              <xsl:call-template name="counted"><xsl:with-param name="count" select="count($refused)"/><xsl:with-param name="what" select="'refused file'"/></xsl:call-template>
            </a>
          </li>
        </xsl:if>
        <xsl:if test="$doubted">
          <li class="nx-doubt">
            <xsl:text>⚠ </xsl:text>
            <xsl:call-template name="counted"><xsl:with-param name="count" select="$doubted"/><xsl:with-param name="what" select="'doubtful value'"/></xsl:call-template>
          </li>
        </xsl:if>
      </ul>
      <div class="nx-tools">
        <xsl:variable name="file" select="concat('/', substring($key, 1, 4), '/', $key)"/>
        <xsl:if test="$records != '' and $key">
          <a class="nx-xml" href="{$records}{$file}.xml" download="{$key}.xml">Record (XML)</a>
        </xsl:if>
        <xsl:if test="$crates != '' and $key">
          <a class="nx-crate" href="{$crates}{$file}.eln" download="{$key}.eln">RO-Crate (eln)</a>
        </xsl:if>
        <xsl:if test="starts-with(nx:summary/@ref, 'http://') or starts-with(nx:summary/@ref, 'https://')">
          <a class="nx-nemo" href="{nx:summary/@ref}">In NEMO</a>
        </xsl:if>
      </div>
    </header>
  </xsl:template>

  <xsl:template name="counted">
    <xsl:param name="count"/>
    <xsl:param name="what"/>
    <xsl:param name="several" select="concat($what, 's')"/>
    <xsl:value-of select="$count"/>
    <xsl:text> </xsl:text>
    <xsl:choose>
      <xsl:when test="$count = 1"><xsl:value-of select="$what"/></xsl:when>
      <xsl:otherwise><xsl:value-of select="$several"/></xsl:otherwise>
    </xsl:choose>
  </xsl:template>

  <xsl:template name="zone">
    <xsl:if test="$zone != ''">
      <xsl:text> </xsl:text>
      <span class="nx-zone">
        <xsl:choose>
          <xsl:when test="$zone = 'Z' or $zone = '+00:00'">UTC</xsl:when>
          <xsl:otherwise>UTC<xsl:value-of select="translate($zone, '-', '−')"/></xsl:otherwise>
        </xsl:choose>
      </span>
    </xsl:if>
  </xsl:template>

  <xsl:template name="count-of-type">
    <xsl:param name="type"/>
    <xsl:variable name="of-type" select="$activities/nx:dataset[@type = $type]"/>
    <xsl:for-each select="$of-type[1]">
      <li class="nx-tag" data-type="{$type}"><xsl:call-template name="type"/><xsl:value-of select="concat(' ', count($of-type))"/></li>
    </xsl:for-each>
  </xsl:template>

  <!-- Name of a dataset's type; context: dataset. -->
  <xsl:template name="type">
    <xsl:choose>
      <xsl:when test="@type = 'SpectrumImage'">Spectrum image</xsl:when>
      <xsl:when test="@type"><xsl:value-of select="@type"/></xsl:when>
      <xsl:otherwise>Unknown</xsl:otherwise>
    </xsl:choose>
  </xsl:template>

  <!-- A text as a link where it is the address of a page, else the text alone: "javascript:" is no such address. -->
  <xsl:template name="reference">
    <xsl:param name="address"/>
    <xsl:choose>
      <xsl:when test="starts-with($address, 'http://') or starts-with($address, 'https://')">
        <a href="{$address}"><xsl:value-of select="$address"/></a>
      </xsl:when>
      <xsl:when test="starts-with($address, 'hdl:')">
        <a href="https://hdl.handle.net/{substring($address, 5)}"><xsl:value-of select="$address"/></a>
      </xsl:when>
      <xsl:when test="starts-with($address, 'doi:')">
        <a href="https://doi.org/{substring($address, 5)}"><xsl:value-of select="$address"/></a>
      </xsl:when>
      <xsl:otherwise><xsl:value-of select="$address"/></xsl:otherwise>
    </xsl:choose>
  </xsl:template>

  <!-- A text of the user's as content of a paragraph; a very long one gets a box that scrolls, by keys as well. -->
  <xsl:template name="prose">
    <xsl:if test="string-length(.) &gt; 1500">
      <xsl:attribute name="data-long">true</xsl:attribute>
      <xsl:attribute name="tabindex">0</xsl:attribute>
    </xsl:if>
    <xsl:value-of select="."/>
  </xsl:template>

  <!-- Session, samples, projects -->

  <xsl:template match="nx:summary">
    <section class="nx-session">
      <h2>Session</h2>
      <dl>
        <xsl:for-each select="nx:experimenter">
          <div><dt>User</dt><dd dir="auto"><xsl:value-of select="."/></dd></div>
        </xsl:for-each>
        <xsl:for-each select="nx:collaborator">
          <div><dt>Operator</dt><dd dir="auto"><xsl:value-of select="."/></dd></div>
        </xsl:for-each>
        <xsl:for-each select="nx:instrument">
          <div>
            <dt>Instrument</dt>
            <dd>
              <span dir="auto"><xsl:value-of select="."/></span>
              <xsl:if test="@pid and @pid != ."><xsl:text> </xsl:text><small><xsl:value-of select="@pid"/></small></xsl:if>
            </dd>
          </div>
        </xsl:for-each>
        <xsl:for-each select="nx:reservationStart">
          <div><dt>Start</dt><dd><xsl:call-template name="moment"/></dd></div>
        </xsl:for-each>
        <xsl:for-each select="nx:reservationEnd">
          <div><dt>End</dt><dd><xsl:call-template name="moment"/></dd></div>
        </xsl:for-each>
        <xsl:if test="$record/@pid">
          <div><dt>Key</dt><dd class="nx-key"><xsl:call-template name="reference"><xsl:with-param name="address" select="string($record/@pid)"/></xsl:call-template></dd></div>
        </xsl:if>
      </dl>
    </section>
  </xsl:template>

  <xsl:template name="moment">
    <time datetime="{.}"><xsl:value-of select="concat(substring(., 1, 10), ' ', substring(., 12, 8))"/></time>
    <xsl:text> </xsl:text>
    <span class="nx-zone"><xsl:value-of select="substring(., 20)"/></span>
  </xsl:template>

  <xsl:template name="samples">
    <section class="nx-samples">
      <h2>Samples</h2>
      <xsl:choose>
        <xsl:when test="$record/nx:sample"><xsl:apply-templates select="$record/nx:sample"/></xsl:when>
        <xsl:otherwise><p class="nx-nothing">No sample was named.</p></xsl:otherwise>
      </xsl:choose>
    </section>
  </xsl:template>

  <xsl:template match="nx:sample">
    <div class="nx-sample">
      <p>
        <strong dir="auto"><xsl:call-template name="sample-name"/></strong>
        <xsl:if test="nx:name and @ref">
          <xsl:text> </xsl:text>
          <small><xsl:call-template name="reference"><xsl:with-param name="address" select="@ref"/></xsl:call-template></small>
        </xsl:if>
      </p>
      <xsl:if test="nx:elements/*">
        <ul class="nx-elements" aria-label="Elements">
          <xsl:for-each select="nx:elements/*"><li><xsl:value-of select="local-name()"/></li></xsl:for-each>
        </ul>
      </xsl:if>
      <xsl:for-each select="nx:description"><p dir="auto"><xsl:call-template name="prose"/></p></xsl:for-each>
      <xsl:apply-templates select="nx:notes/nx:entry/*"/>
    </div>
  </xsl:template>

  <xsl:template name="sample-name">
    <xsl:choose>
      <xsl:when test="normalize-space(nx:name) != ''"><xsl:value-of select="nx:name"/></xsl:when>
      <xsl:when test="@ref"><xsl:call-template name="reference"><xsl:with-param name="address" select="@ref"/></xsl:call-template></xsl:when>
      <xsl:otherwise>Sample <xsl:value-of select="count(preceding-sibling::nx:sample) + 1"/></xsl:otherwise>
    </xsl:choose>
  </xsl:template>

  <xsl:template name="projects">
    <xsl:for-each select="$record/nx:project">
      <section class="nx-project">
        <h2>Project</h2>
        <p dir="auto">
          <xsl:value-of select="nx:name"/>
          <xsl:if test="nx:project_id"><xsl:text> </xsl:text><small><xsl:value-of select="nx:project_id"/></small></xsl:if>
        </p>
        <xsl:for-each select="nx:division | nx:group"><p dir="auto"><xsl:value-of select="."/></p></xsl:for-each>
        <xsl:for-each select="nx:ref"><p><xsl:call-template name="reference"><xsl:with-param name="address" select="string(.)"/></xsl:call-template></p></xsl:for-each>
      </section>
    </xsl:for-each>
  </xsl:template>

  <!-- Previews: the first one; record.js makes the gallery of all. -->

  <xsl:template name="gallery">
    <section class="nx-gallery" aria-labelledby="nx-previews">
      <h2 id="nx-previews">Previews</h2>
      <xsl:variable name="shown" select="$activities/nx:dataset[starts-with(nx:preview, '/')]"/>
      <xsl:choose>
        <xsl:when test="$shown and $datasets != ''">
          <xsl:for-each select="$shown[1]">
            <figure class="nx-large">
              <a href="{$datasets}{nx:preview[1]}"><img src="{$datasets}{nx:preview[1]}" alt="Preview of {nx:name}" width="500" height="500"/></a>
              <figcaption dir="auto"><xsl:value-of select="nx:name"/></figcaption>
            </figure>
          </xsl:for-each>
        </xsl:when>
        <xsl:when test="$shown"><p class="nx-nothing">The previews cannot be reached from this page.</p></xsl:when>
        <xsl:otherwise><p class="nx-nothing">No file of this session has a preview.</p></xsl:otherwise>
      </xsl:choose>
    </section>
  </xsl:template>

  <!-- Time line -->

  <xsl:template name="timeline">
    <xsl:if test="$span &gt; 0 and $activities">
      <section class="nx-timeline" aria-labelledby="nx-times">
        <h2 id="nx-times">Time line</h2>
        <svg width="100%" height="60" role="group" aria-labelledby="nx-times">
          <rect class="nx-track" x="0" y="18" width="100%" height="20"/>
          <xsl:call-template name="marks">
            <xsl:with-param name="step">
              <xsl:choose>
                <xsl:when test="$span &lt;= 1800">300</xsl:when>
                <xsl:when test="$span &lt;= 3600">600</xsl:when>
                <xsl:when test="$span &lt;= 10800">1800</xsl:when>
                <xsl:when test="$span &lt;= 21600">3600</xsl:when>
                <xsl:when test="$span &lt;= 43200">7200</xsl:when>
                <xsl:when test="$span &lt;= 86400">14400</xsl:when>
                <xsl:when test="$span &lt;= 259200">43200</xsl:when>
                <xsl:otherwise><xsl:value-of select="86400 * ceiling($span div 604800)"/></xsl:otherwise>
              </xsl:choose>
            </xsl:with-param>
          </xsl:call-template>
          <xsl:apply-templates select="$activities" mode="timeline"/>
        </svg>
      </section>
    </xsl:if>
  </xsl:template>

  <!-- Marks of the hours, by the clock where the instrument stands. -->
  <xsl:template name="marks">
    <xsl:param name="step"/>
    <xsl:param name="at" select="ceiling(($from + $ahead) div $step) * $step - $ahead"/>
    <xsl:if test="$at &lt;= $to">
      <xsl:variable name="x" select="format-number(100 * ($at - $from) div $span, '0.###')"/>
      <xsl:variable name="clock" select="($at + $ahead) mod 86400"/>
      <line class="nx-hour" x1="{$x}%" x2="{$x}%" y1="18" y2="42"/>
      <text class="nx-hour" y="56">
        <xsl:attribute name="x">
          <xsl:choose>
            <xsl:when test="$x &lt; 3">0</xsl:when>
            <xsl:otherwise><xsl:value-of select="$x"/></xsl:otherwise>
          </xsl:choose>
          <xsl:text>%</xsl:text>
        </xsl:attribute>
        <xsl:attribute name="text-anchor">
          <xsl:choose>
            <xsl:when test="$x &lt; 3">start</xsl:when>
            <xsl:when test="$x &gt; 96">end</xsl:when>
            <xsl:otherwise>middle</xsl:otherwise>
          </xsl:choose>
        </xsl:attribute>
        <xsl:choose>
          <xsl:when test="$step &gt;= 86400"><xsl:value-of select="substring(date:add('1970-01-01T00:00:00Z', date:duration($at + $ahead)), 6, 5)"/></xsl:when>
          <xsl:otherwise><xsl:value-of select="concat(format-number(floor($clock div 3600), '00'), ':', format-number(floor($clock mod 3600 div 60), '00'))"/></xsl:otherwise>
        </xsl:choose>
      </text>
      <xsl:call-template name="marks">
        <xsl:with-param name="step" select="$step"/>
        <xsl:with-param name="at" select="$at + $step"/>
      </xsl:call-template>
    </xsl:if>
  </xsl:template>

  <xsl:template match="nx:acquisitionActivity" mode="timeline">
    <xsl:variable name="begin" select="date:seconds(string(nx:startTime))"/>
    <xsl:variable name="last"><xsl:call-template name="last-saved"/></xsl:variable>
    <!-- Cameras' clocks may be wrong: no bar reaches into the next. -->
    <xsl:variable name="limit">
      <xsl:choose>
        <xsl:when test="following-sibling::nx:acquisitionActivity"><xsl:value-of select="date:seconds(string(following-sibling::nx:acquisitionActivity[1]/nx:startTime))"/></xsl:when>
        <xsl:otherwise><xsl:value-of select="$to"/></xsl:otherwise>
      </xsl:choose>
    </xsl:variable>
    <xsl:variable name="finish">
      <xsl:choose>
        <xsl:when test="$last &gt; $limit"><xsl:value-of select="$limit"/></xsl:when>
        <xsl:when test="$last &gt; $begin"><xsl:value-of select="$last"/></xsl:when>
        <xsl:otherwise><xsl:value-of select="$begin"/></xsl:otherwise>
      </xsl:choose>
    </xsl:variable>
    <xsl:variable name="width" select="100 * ($finish - $begin) div $span"/>
    <xsl:variable name="left" select="100 * ($begin - $from) div $span"/>
    <!-- Where there is not a number (NaN), there is no bar. -->
    <xsl:if test="$left = $left">
      <a class="nx-bar" href="#nx-activity-{position()}">
        <title>
          <xsl:value-of select="concat('Activity ', position(), ', from ', substring(nx:startTime, 12, 5), ', ')"/>
          <xsl:call-template name="counted"><xsl:with-param name="count" select="count(nx:dataset)"/><xsl:with-param name="what" select="'dataset'"/></xsl:call-template>
        </title>
        <rect x="{format-number($left, '0.###')}%" y="18" height="20" rx="2">
          <xsl:attribute name="width">
            <xsl:choose>
              <xsl:when test="$width &gt; 0.6"><xsl:value-of select="format-number($width, '0.###')"/></xsl:when>
              <xsl:otherwise>0.6</xsl:otherwise>
            </xsl:choose>
            <xsl:text>%</xsl:text>
          </xsl:attribute>
        </rect>
        <xsl:if test="100 * ($limit - $begin) div $span &gt; 2">
          <text x="{format-number($left, '0.###')}%" y="13"><xsl:value-of select="position()"/></text>
        </xsl:if>
      </a>
    </xsl:if>
  </xsl:template>

  <!-- Seconds since 1970 at which the last dataset of an activity was made; no number when none tells. -->
  <xsl:template name="last-saved">
    <xsl:for-each select="nx:dataset/nx:meta[@name = 'Creation Time']">
      <xsl:sort select="date:seconds(string(.))" data-type="number" order="descending"/>
      <xsl:if test="position() = 1"><xsl:value-of select="date:seconds(string(.))"/></xsl:if>
    </xsl:for-each>
  </xsl:template>

  <!-- Navigation -->

  <xsl:template name="navigation">
    <nav class="nx-navigation" aria-label="Activities">
      <ol>
        <xsl:for-each select="$activities">
          <li>
            <a href="#nx-activity-{position()}">
              <span class="nx-number"><xsl:value-of select="position()"/></span>
              <span class="nx-when"><xsl:value-of select="substring(nx:startTime, 12, 5)"/></span>
              <span class="nx-kinds"><xsl:call-template name="kinds"/></span>
              <span class="nx-count"><xsl:value-of select="count(nx:dataset)"/><span class="nx-unseen"> datasets</span></span>
            </a>
          </li>
        </xsl:for-each>
      </ol>
      <xsl:if test="$refused"><p><a href="#nx-refused">Files that are not in the record</a></p></xsl:if>
    </nav>
  </xsl:template>

  <!-- Kinds of data in an activity; context: activity. -->
  <xsl:template name="kinds">
    <xsl:variable name="shared" select="nx:setup/nx:param[@name = 'Data Type']"/>
    <xsl:choose>
      <xsl:when test="$shared"><xsl:value-of select="translate($shared, '_', ' ')"/></xsl:when>
      <xsl:otherwise>
        <xsl:call-template name="each-once"><xsl:with-param name="kinds" select="nx:dataset/nx:meta[@name = 'Data Type']"/></xsl:call-template>
      </xsl:otherwise>
    </xsl:choose>
  </xsl:template>

  <xsl:template name="each-once">
    <xsl:param name="kinds"/>
    <xsl:param name="seen" select="'|'"/>
    <xsl:variable name="next" select="$kinds[not(contains($seen, concat('|', ., '|')))][1]"/>
    <xsl:if test="$next and string-length($seen) &lt; 300">
      <xsl:if test="$seen != '|'">, </xsl:if>
      <xsl:value-of select="translate($next, '_', ' ')"/>
      <xsl:call-template name="each-once">
        <xsl:with-param name="kinds" select="$kinds"/>
        <xsl:with-param name="seen" select="concat($seen, $next, '|')"/>
      </xsl:call-template>
    </xsl:if>
  </xsl:template>

  <!-- Activities -->

  <xsl:template match="nx:acquisitionActivity">
    <xsl:variable name="number" select="position()"/>
    <xsl:variable name="shared-kind" select="string(nx:setup/nx:param[@name = 'Data Type'])"/>
    <section class="nx-activity" id="nx-activity-{$number}" aria-labelledby="nx-heading-{$number}">
      <h2 id="nx-heading-{$number}">
        <xsl:text>Activity </xsl:text><xsl:value-of select="$number"/>
        <xsl:text> </xsl:text>
        <span class="nx-kinds"><xsl:call-template name="kinds"/></span>
      </h2>
      <p class="nx-byline">
        <xsl:if test="nx:startTime">
          <span>from <time datetime="{nx:startTime}">
            <xsl:if test="substring(nx:startTime, 1, 10) != $day"><xsl:value-of select="concat(substring(nx:startTime, 1, 10), ' ')"/></xsl:if>
            <xsl:value-of select="substring(nx:startTime, 12, 8)"/>
          </time></span>
        </xsl:if>
        <span>
          <xsl:call-template name="counted"><xsl:with-param name="count" select="count(nx:dataset)"/><xsl:with-param name="what" select="'dataset'"/></xsl:call-template>
        </span>
        <xsl:for-each select="key('sample', nx:sampleID)"><span dir="auto">sample <xsl:call-template name="sample-name"/></span></xsl:for-each>
      </p>
      <xsl:apply-templates select="nx:setup[nx:param]"/>
      <xsl:apply-templates select="nx:notes"/>
      <xsl:if test="nx:dataset">
        <div class="nx-listing">
          <xsl:if test="$datasets != ''">
            <xsl:for-each select="nx:dataset[starts-with(nx:preview, '/')][1]">
              <figure class="nx-beside">
                <img src="{$datasets}{nx:preview[1]}" loading="lazy" alt="Preview of {nx:name}" width="500" height="500"/>
                <figcaption dir="auto"><xsl:value-of select="nx:name"/></figcaption>
              </figure>
            </xsl:for-each>
          </xsl:if>
          <div class="nx-tables">
            <!-- Long listings in parts: the browser lays out those in view only. -->
            <xsl:for-each select="nx:dataset[position() mod 100 = 1]">
              <table aria-labelledby="nx-heading-{$number}">
                <xsl:attribute name="class">
                  <xsl:text>nx-datasets</xsl:text>
                  <xsl:if test="last() &gt; 1"> nx-part</xsl:if>
                </xsl:attribute>
                <thead>
                  <tr><th scope="col">Name</th><th scope="col">Time</th><th scope="col">Type</th><th scope="col">Data type</th><th scope="col">Role</th><th scope="col">Format</th><th scope="col">Details</th></tr>
                </thead>
                <tbody>
                  <xsl:variable name="before" select="100 * (position() - 1)"/>
                  <xsl:for-each select="../nx:dataset[position() &gt; $before and position() &lt;= $before + 100]">
                    <xsl:call-template name="dataset">
                      <xsl:with-param name="id" select="concat('nx-', $number, '-', $before + position())"/>
                      <xsl:with-param name="shared-kind" select="$shared-kind"/>
                    </xsl:call-template>
                  </xsl:for-each>
                </tbody>
              </table>
            </xsl:for-each>
          </div>
        </div>
      </xsl:if>
    </section>
  </xsl:template>

  <xsl:template match="nx:setup">
    <details class="nx-setup">
      <summary>Setup parameters <span class="nx-count"><xsl:value-of select="count(nx:param)"/></span></summary>
      <table>
        <thead><tr><th scope="col">Parameter</th><th scope="col">Value</th><th scope="col">Unit</th><th scope="col">Remark</th></tr></thead>
        <tbody>
          <xsl:for-each select="nx:param">
            <tr>
              <th scope="row" dir="auto"><xsl:value-of select="@name"/></th>
              <td dir="auto"><xsl:value-of select="."/></td>
              <td><xsl:value-of select="@unit"/></td>
              <td><xsl:if test="@warning = 'true' or @warning = '1'"><span class="nx-doubt">⚠ doubtful</span></xsl:if></td>
            </tr>
          </xsl:for-each>
        </tbody>
      </table>
    </details>
  </xsl:template>

  <!-- Datasets -->

  <xsl:template name="dataset">
    <xsl:param name="id"/>
    <xsl:param name="shared-kind"/>
    <xsl:variable name="time" select="nx:meta[@name = 'Creation Time']"/>
    <xsl:variable name="doubts" select="count(nx:meta/@warning[. = 'true' or . = '1'])"/>
    <tr id="{$id}">
      <th scope="row">
        <xsl:choose>
          <xsl:when test="$raw != '' and starts-with(nx:location, '/')">
            <a class="nx-name" href="{$raw}{nx:location}"><xsl:value-of select="nx:name"/></a>
          </xsl:when>
          <xsl:otherwise><span class="nx-name"><xsl:value-of select="nx:name"/></span></xsl:otherwise>
        </xsl:choose>
        <xsl:if test="nx:description[. != ''] and not(starts-with(nx:name, nx:description))">
          <small><xsl:value-of select="nx:description"/></small>
        </xsl:if>
        <xsl:if test="$doubts"><small class="nx-doubt">⚠ <xsl:value-of select="$doubts"/> doubtful</small></xsl:if>
      </th>
      <td>
        <xsl:if test="$time"><xsl:call-template name="clock"><xsl:with-param name="time" select="string($time)"/></xsl:call-template></xsl:if>
      </td>
      <td><span class="nx-tag" data-type="{@type}"><xsl:call-template name="type"/></span></td>
      <td><xsl:value-of select="translate(concat($shared-kind, nx:meta[@name = 'Data Type']), '_', ' ')"/></td>
      <td><xsl:value-of select="@role"/></td>
      <td><xsl:value-of select="nx:format"/></td>
      <td class="nx-more">
        <!-- The values as plain lines: a table of them for each of 5000 datasets would take the browser seconds. -->
        <details class="nx-values" data-location="{nx:location}">
          <summary>Metadata <span class="nx-count"><xsl:value-of select="count(nx:meta)"/></span></summary>
          <pre>
            <xsl:for-each select="nx:meta">
              <xsl:value-of select="concat(normalize-space(@name), '&#9;', normalize-space(.), '&#9;', normalize-space(@unit))"/>
              <xsl:if test="@warning = 'true' or @warning = '1'">&#9;⚠ doubtful</xsl:if>
              <xsl:text>&#10;</xsl:text>
            </xsl:for-each>
          </pre>
        </details>
        <xsl:if test="$datasets != ''">
          <xsl:if test="starts-with(nx:preview, '/')"><a class="nx-preview" href="{$datasets}{nx:preview[1]}">Preview</a></xsl:if>
          <xsl:variable name="sidecar"><xsl:call-template name="has-sidecar"/></xsl:variable>
          <xsl:if test="$sidecar = 'yes'"><a class="nx-sidecar" href="{$datasets}{nx:location}.json">JSON</a></xsl:if>
        </xsl:if>
      </td>
    </tr>
  </xsl:template>

  <!-- When a dataset was made, by the session's clock, with the date where it is another day. -->
  <xsl:template name="clock">
    <xsl:param name="time"/>
    <xsl:variable name="offset" select="substring($time, 20)"/>
    <xsl:variable name="here">
      <xsl:choose>
        <xsl:when test="$offset = $zone or $offset = '' or not(date:seconds($time) = date:seconds($time))"><xsl:value-of select="$time"/></xsl:when>
        <xsl:otherwise><xsl:value-of select="date:add('1970-01-01T00:00:00Z', date:duration(date:seconds($time) + $ahead))"/></xsl:otherwise>
      </xsl:choose>
    </xsl:variable>
    <time datetime="{$time}">
      <xsl:if test="substring($here, 1, 10) != $day"><xsl:value-of select="concat(substring($here, 1, 10), ' ')"/></xsl:if>
      <xsl:value-of select="substring($here, 12, 8)"/>
    </time>
  </xsl:template>

  <!-- Whether the sidecar's name follows from the file's: that of a very long one has a digest in it. -->
  <xsl:template name="has-sidecar">
    <xsl:if test="starts-with(nx:location, '/')">
      <xsl:choose>
        <xsl:when test="string-length(nx:location) &lt;= 250">yes</xsl:when>
        <xsl:otherwise>
          <xsl:variable name="name" select="str:tokenize(nx:location, '/')[last()]"/>
          <xsl:variable name="escapes" select="string-length($name) - string-length(translate($name, '%', ''))"/>
          <xsl:if test="string-length($name) - 2 * $escapes &lt;= 250">yes</xsl:if>
        </xsl:otherwise>
      </xsl:choose>
    </xsl:if>
  </xsl:template>

  <!-- Notes: remarks on an activity, files that are not in the record -->

  <xsl:template match="nx:acquisitionActivity/nx:notes">
    <div class="nx-notes"><xsl:apply-templates select="nx:entry/*"/></div>
  </xsl:template>

  <xsl:template match="nx:Experiment/nx:notes">
    <section class="nx-notes">
      <xsl:if test="$refused[1]/ancestor::nx:notes[1][generate-id() = generate-id(current())]">
        <xsl:attribute name="id">nx-refused</xsl:attribute>
      </xsl:if>
      <xsl:if test="not(.//nx:title)"><h2>Notes</h2></xsl:if>
      <xsl:apply-templates select="nx:entry/*"/>
    </section>
  </xsl:template>

  <xsl:template match="nx:acquisitionActivity/nx:notes/nx:entry/nx:p" priority="1"><p class="nx-doubt" dir="auto">⚠ <xsl:value-of select="."/></p></xsl:template>

  <xsl:template match="nx:entry/nx:p"><p dir="auto"><xsl:value-of select="."/></p></xsl:template>

  <xsl:template match="nx:entry/nx:imageURL">
    <p><xsl:call-template name="reference"><xsl:with-param name="address" select="string(.)"/></xsl:call-template></p>
  </xsl:template>

  <xsl:template match="nx:entry/nx:table">
    <xsl:if test="nx:title"><h2><xsl:value-of select="nx:title"/></h2></xsl:if>
    <table>
      <thead>
        <tr><xsl:for-each select="nx:header/nx:column"><th scope="col"><xsl:value-of select="."/></th></xsl:for-each></tr>
      </thead>
      <tbody>
        <xsl:for-each select="nx:rows/nx:row">
          <xsl:variable name="row" select="."/>
          <tr>
            <xsl:for-each select="../../nx:header/nx:column">
              <td dir="auto"><xsl:apply-templates select="$row/nx:cell[@colid = current()/@id]"/></td>
            </xsl:for-each>
          </tr>
        </xsl:for-each>
      </tbody>
    </table>
  </xsl:template>

  <xsl:template match="nx:cell"><xsl:value-of select="."/></xsl:template>

  <!-- A location for people; one whose bytes are no UTF-8 stays as it is. -->
  <xsl:template match="nx:cell[@colid = 'location']">
    <xsl:variable name="plain" select="str:decode-uri(string(.))"/>
    <xsl:choose>
      <xsl:when test="$plain != ''"><xsl:value-of select="$plain"/></xsl:when>
      <xsl:otherwise><xsl:value-of select="."/></xsl:otherwise>
    </xsl:choose>
  </xsl:template>
</xsl:stylesheet>
