{{/* A workload of one role: metadata's labels, selector and pod. dict: root, role, values. */}}

{{- define "elanus.pod" -}}
{{- $root := .root }}
{{- $values := .values }}
metadata:
  labels:
    {{- include "elanus.labels" (dict "root" $root "role" .role) | nindent 4 }}
    {{- with $root.Values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    checksum/config: {{ printf "%s%s" (include "elanus.config" $root) (toJson $root.Values.config) | sha256sum }}
    {{- with $root.Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "elanus.serviceAccount" $root }}
  automountServiceAccountToken: {{ $root.Values.objectStore.useIAM }}
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ add (int $root.Values.drainTimeoutSeconds) 30 }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 10001
    runAsGroup: 10001
    fsGroup: 10001
    seccompProfile: {type: RuntimeDefault}
  {{- with $root.Values.imagePullSecrets }}
  imagePullSecrets: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.nodeSelector | default $root.Values.nodeSelector }}
  nodeSelector: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations | default $root.Values.tolerations }}
  tolerations: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.affinity | default $root.Values.affinity }}
  affinity: {{ toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.priorityClassName | default $root.Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "elanus.selector" (dict "root" $root "role" .role) | nindent 10 }}
  containers:
    - name: {{ .role }}
      image: "{{ $root.Values.image.repository }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}"
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: [run, {{ .role }}, --config, /etc/elanus/elanus.yaml]
      env:
        - name: ELANUS_CLUSTER_ADVERTISEHOST
          valueFrom:
            fieldRef: {fieldPath: status.podIP}
        - name: HOME
          value: /tmp
        {{- with $values.cacheMB }}
        - name: ELANUS_LOCALSTORAGE_CACHE_MAXSIZE
          value: {{ . | int | quote }}
        {{- end }}
        {{- include "elanus.credentials" $root | nindent 8 }}
        {{- with $root.Values.extraEnvironment }}{{ toYaml . | nindent 8 }}{{ end }}
      ports:
        {{- if eq .role "proxy" }}
        - {name: public, containerPort: {{ int $values.port }}}
        {{- end }}
        - {name: internal, containerPort: 19540}
        - {name: management, containerPort: 9091}
      {{- if eq .role "proxy" }}
      lifecycle:
        preStop:  # the Service needs a moment to send new connections elsewhere
          exec: {command: [sleep, "5"]}
      {{- end }}
      # The ports open last, so a start counts as one for up to five minutes.
      startupProbe:
        httpGet: {path: /healthz, port: management}
        periodSeconds: 2
        timeoutSeconds: 3
        failureThreshold: 150
      readinessProbe:
        httpGet: {path: /healthz, port: management}
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 2
      # That it answers: a restart doesn't mend a dependency that is away.
      livenessProbe:
        httpGet: {path: /livez, port: management}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      resources: {{- toYaml $values.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: config, mountPath: /etc/elanus/elanus.yaml, subPath: elanus.yaml, readOnly: true}
        - {name: data, mountPath: /var/lib/elanus}
        - {name: temporary, mountPath: /tmp}
        {{- if and $root.Values.etcd.ssl.enabled $root.Values.etcd.ssl.secretName }}
        - {name: etcd-tls, mountPath: /etc/elanus/etcd-tls, readOnly: true}
        {{- end }}
        {{- if and (eq .role "proxy") (int $root.Values.tls.mode) }}
        - {name: tls, mountPath: /etc/elanus/tls, readOnly: true}
        {{- end }}
        {{- if $root.Values.tls.internal.enabled }}
        - {name: internal-tls, mountPath: /etc/elanus/internal-tls, readOnly: true}
        {{- end }}
  volumes:
    - name: config
      configMap: {name: {{ include "elanus.name" $root }}}
    # Only copies and unfinished work: what counts is in etcd, the object store and the log.
    - name: data
      emptyDir: {sizeLimit: {{ $values.disk }}}
    - name: temporary
      emptyDir: {sizeLimit: {{ $values.disk }}}
    {{- if and $root.Values.etcd.ssl.enabled $root.Values.etcd.ssl.secretName }}
    - name: etcd-tls
      secret: {secretName: {{ $root.Values.etcd.ssl.secretName }}, defaultMode: 0440}
    {{- end }}
    {{- if and (eq .role "proxy") (int $root.Values.tls.mode) }}
    - name: tls
      secret: {secretName: {{ $root.Values.tls.secretName }}, defaultMode: 0440}
    {{- end }}
    {{- if $root.Values.tls.internal.enabled }}
    - name: internal-tls
      secret: {secretName: {{ $root.Values.tls.internal.secretName }}, defaultMode: 0440}
    {{- end }}
{{- end }}
