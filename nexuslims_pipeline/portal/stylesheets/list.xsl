<?xml version="1.0" encoding="UTF-8"?>
<!-- A record among the results of a search in CDCS, which shows the session's key, as a link, above it.

     CDCS shows a result only when it is unfolded; one of ours is there at once, and can be folded. -->
<xsl:stylesheet version="1.0"
                xmlns:xsl="http://www.w3.org/1999/XSL/Transform"
                xmlns:nx="https://data.nist.gov/od/dm/nexus/experiment/v1.0"
                exclude-result-prefixes="nx">

  <xsl:output method="html" encoding="UTF-8" indent="no"/>
  <xsl:strip-space elements="*"/>

  <!-- Address of the previews (portal/page.py); none are shown where it is empty. -->
  <xsl:param name="datasets"/>

  <xsl:variable name="record" select="/nx:Experiment"/>
  <xsl:variable name="summary" select="$record/nx:summary"/>
  <xsl:variable name="data" select="$record/nx:acquisitionActivity/nx:dataset"/>
  <xsl:variable name="preview" select="$data/nx:preview[starts-with(., '/')][1]"/>

  <xsl:template match="/">
    <div class="nx-result">
      <style>
        <xsl:text>.content-result:has(> .nx-result) {display: block; max-height: none !important; width: 100%}
.nx-result {display: flow-root; font-size: 0.875rem; line-height: 1.45; overflow-wrap: anywhere; padding: 0.35rem 0.5rem}
.nx-result > img {background: #f5f7f9; float: inline-start; height: 5.5rem; margin-inline-end: 0.75rem; object-fit: contain; width: 5.5rem}
.nx-result small {color: #525e6c; font-size: 0.8125rem}</xsl:text>
      </style>
      <xsl:if test="$datasets != '' and $preview">
        <img src="{$datasets}{$preview[1]}" alt="" loading="lazy"/>
      </xsl:if>
      <div><strong dir="auto"><xsl:value-of select="$record/nx:title"/></strong></div>
      <div>
        <span dir="auto"><xsl:value-of select="$summary/nx:instrument"/></span>
        <xsl:for-each select="$summary/nx:experimenter"> · <span dir="auto"><xsl:value-of select="."/></span></xsl:for-each>
        <xsl:for-each select="$summary/nx:reservationStart">
          <xsl:text> · </xsl:text>
          <time datetime="{.}"><xsl:value-of select="concat(substring(., 1, 10), ' ', substring(., 12, 5))"/></time>
        </xsl:for-each>
        <xsl:text> · </xsl:text>
        <xsl:value-of select="count($data)"/>
        <xsl:choose><xsl:when test="count($data) = 1"> dataset</xsl:when><xsl:otherwise> datasets</xsl:otherwise></xsl:choose>
        <xsl:if test="$data">
          <xsl:text> (</xsl:text>
          <xsl:variable name="types">
            <xsl:call-template name="count-of-type"><xsl:with-param name="type" select="'Image'"/></xsl:call-template>
            <xsl:call-template name="count-of-type"><xsl:with-param name="type" select="'Spectrum'"/></xsl:call-template>
            <xsl:call-template name="count-of-type"><xsl:with-param name="type" select="'SpectrumImage'"/></xsl:call-template>
            <xsl:call-template name="count-of-type"><xsl:with-param name="type" select="'Diffraction'"/></xsl:call-template>
            <xsl:call-template name="count-of-type"><xsl:with-param name="type" select="'Notes'"/></xsl:call-template>
            <xsl:call-template name="count-of-type"><xsl:with-param name="type" select="'Misc'"/></xsl:call-template>
            <xsl:call-template name="count-of-type"><xsl:with-param name="type" select="'Unknown'"/></xsl:call-template>
          </xsl:variable>
          <xsl:value-of select="concat(substring($types, 3), ')')"/>
        </xsl:if>
      </div>
      <xsl:if test="$record/nx:sample[nx:name or nx:elements]">
        <div>
          <xsl:for-each select="$record/nx:sample[nx:name or nx:elements]">
            <xsl:if test="position() &gt; 1">; </xsl:if>
            <span dir="auto"><xsl:value-of select="nx:name"/></span>
            <xsl:for-each select="nx:elements/*"><xsl:text> </xsl:text><small><xsl:value-of select="local-name()"/></small></xsl:for-each>
          </xsl:for-each>
        </div>
      </xsl:if>
      <xsl:variable name="motivation" select="normalize-space($summary/nx:motivation)"/>
      <xsl:if test="$motivation != ''">
        <div dir="auto">
          <xsl:value-of select="substring($motivation, 1, 300)"/>
          <xsl:if test="string-length($motivation) &gt; 300">…</xsl:if>
        </div>
      </xsl:if>
    </div>
  </xsl:template>

  <xsl:template name="count-of-type">
    <xsl:param name="type"/>
    <xsl:variable name="count" select="count($data[@type = $type])"/>
    <xsl:if test="$count"><xsl:value-of select="concat(', ', $type, ' ', $count)"/></xsl:if>
  </xsl:template>
</xsl:stylesheet>
