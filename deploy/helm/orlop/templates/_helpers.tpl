{{- define "orlop.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "orlop.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "orlop.labels" -}}
{{ include "orlop.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
{{- end -}}

{{- define "orlop.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "orlop.name" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* The Secret of REGISTRY_* variables; empty if there is none. */}}
{{- define "orlop.secret" -}}
{{- if .Values.existingSecret -}}
{{- .Values.existingSecret -}}
{{- else if .Values.secret -}}
{{- include "orlop.name" . -}}
{{- end -}}
{{- end -}}

{{/* The storage drivers that are named, with a space between them. */}}
{{- define "orlop.drivers" -}}
{{- $storage := .Values.config.storage | default dict -}}
{{- $named := list -}}
{{- range list "filesystem" "inmemory" "s3" "s3aws" "azure" "gcs" "swift" "oss" -}}
{{- if hasKey $storage . -}}{{- $named = append $named . -}}{{- end -}}
{{- end -}}
{{- join " " $named -}}
{{- end -}}

{{/* "true" if the bytes are in an object store, else empty. */}}
{{- define "orlop.objectStore" -}}
{{- if not (has (include "orlop.drivers" .) (list "" "filesystem" "inmemory")) -}}true{{- end -}}
{{- end -}}

{{/* Where the volume with the data belongs. */}}
{{- define "orlop.dataFolder" -}}
{{- dig "filesystem" "rootdirectory" "" (.Values.config.storage | default dict) | default "/var/lib/registry" -}}
{{- end -}}

{{/* Where the cache on disk is, if the chart has to make a volume for it; else empty. */}}
{{- define "orlop.cacheFolder" -}}
{{- $path := dig "cache" "disk" "path" "" (.Values.config.storage | default dict) -}}
{{- $given := false -}}
{{- range .Values.extraVolumeMounts -}}
{{- if or (eq .mountPath $path) (hasPrefix (printf "%s/" .mountPath) $path) -}}{{- $given = true -}}{{- end -}}
{{- end -}}
{{- if not $given -}}{{- $path -}}{{- end -}}
{{- end -}}

{{/* "true" if there may be more than one server, else empty. */}}
{{- define "orlop.several" -}}
{{- if or .Values.autoscaling.enabled (gt (int .Values.replicas) 1) -}}true{{- end -}}
{{- end -}}

{{/* The URL of the database as far as the values tell: empty if they say nothing, "?" if a Secret
     or another object has it. */}}
{{- define "orlop.database" -}}
{{- $url := dig "url" "" (.Values.config.database | default dict) -}}
{{- with .Values.existingSecret -}}{{- $url = "?" -}}{{- end -}}
{{- with get .Values.secret "REGISTRY_DATABASE_URL" -}}{{- $url = . -}}{{- end -}}
{{- range .Values.extraEnv -}}
{{- if eq .name "REGISTRY_DATABASE_URL" -}}{{- $url = .value | default "?" -}}{{- end -}}
{{- end -}}
{{- $url -}}
{{- end -}}

{{/* "true" if the facts are in a file, which is for one server at a time; else empty. */}}
{{- define "orlop.sqlite" -}}
{{- $url := include "orlop.database" . -}}
{{- if or (hasPrefix "sqlite:" $url) (not (or $url (include "orlop.objectStore" .))) -}}true{{- end -}}
{{- end -}}

{{/* config.yml: the values', and what the chart knows. */}}
{{- define "orlop.config" -}}
{{- $http := dict "draintimeout" (printf "%ds" (int .Values.drain.seconds)) -}}
{{- with .Values.tls.secretName -}}
{{- $_ := set $http "tls" (dict "certificate" "/tls/tls.crt" "key" "/tls/tls.key") -}}
{{- end -}}
{{- $known := dict "http" $http -}}
{{- with .Values.htpasswd.secretName -}}
{{- $_ := set $known "auth" (dict "htpasswd" (dict "realm" "registry" "path" "/auth/htpasswd")) -}}
{{- end -}}
{{- toYaml (mustMergeOverwrite (deepCopy .Values.config) $known) -}}
{{- end -}}

{{/* Keys of config.yml that are secret (docs/configuration.md), which a ConfigMap is not. */}}
{{- define "orlop.secretKeys" -}}
http.secret redis.password redis.sentinelpassword proxy.password
storage.s3.secretkey storage.s3.sessiontoken storage.s3aws.secretkey storage.s3aws.sessiontoken
storage.azure.accountkey storage.azure.connectionstring storage.azure.credentials.secret
storage.gcs.credentials storage.swift.password storage.swift.secretkey storage.swift.accesskey
storage.oss.accesskeysecret
{{- end -}}

{{/* What would lose data, or not work, is refused. */}}
{{- define "orlop.validate" -}}
{{- $drivers := include "orlop.drivers" . -}}
{{- $store := include "orlop.objectStore" . -}}
{{- $several := include "orlop.several" . -}}
{{- $database := include "orlop.database" . -}}
{{- if contains " " $drivers -}}
{{- fail (printf "config.storage names several drivers (%s): leave one" $drivers) -}}
{{- end -}}
{{- if and .Values.existingSecret .Values.secret -}}
{{- fail "existingSecret and secret are both set, and a server gets the variables of one: put all of them into one" -}}
{{- end -}}
{{- range regexSplit "\\s+" (include "orlop.secretKeys" . | trim) -1 -}}
{{- $found := $.Values.config -}}
{{- range splitList "." . -}}
{{- if kindIs "map" $found -}}{{- $found = get $found . -}}{{- else -}}{{- $found = "" -}}{{- end -}}
{{- end -}}
{{- if $found -}}
{{- fail (printf "config.%s is secret, and would be readable in a ConfigMap: make a Secret with REGISTRY_%s and name it in existingSecret" . (. | replace "." "_" | upper)) -}}
{{- end -}}
{{- end -}}
{{- range list "url" "replica" -}}
{{- if regexMatch "//[^/]*:.*@" (dig . "" ($.Values.config.database | default dict)) -}}
{{- fail (printf "config.database.%s has a password in it, which would be readable in a ConfigMap: make a Secret with REGISTRY_DATABASE_%s and name it in existingSecret" . (upper .)) -}}
{{- end -}}
{{- end -}}
{{- if and (or $store $several) (not $database) -}}
{{- fail "An object store, or several servers, need PostgreSQL: make a Secret with REGISTRY_DATABASE_URL and name it in existingSecret" -}}
{{- end -}}
{{- if and $several (hasPrefix "sqlite:" $database) -}}
{{- fail "Several servers need PostgreSQL, and the database is a file of SQLite" -}}
{{- end -}}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) -}}
{{- fail "ingress.hosts: say at least one name" -}}
{{- end -}}
{{- if and $several (eq $drivers "inmemory") -}}
{{- fail "Several servers need an object store, or a volume: what is in memory is one server's" -}}
{{- end -}}
{{- if and $several (not $store) (not .Values.persistence.existingClaim) (not (has "ReadWriteMany" .Values.persistence.accessModes)) -}}
{{- fail "Several servers need an object store (config.storage), or a volume with ReadWriteMany (persistence.accessModes)" -}}
{{- end -}}
{{- with .Values.autoscaling -}}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- fail (printf "autoscaling.minReplicas (%d) is more than maxReplicas (%d)" (int .minReplicas) (int .maxReplicas)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
